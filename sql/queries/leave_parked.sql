-- Takes out of what waits the samples that are parked. :task_hash   :parked_after runs in a row that failed
delete from temp.waiting
where waiting.why = 'failed'
  and exists (
    select 1
    from outcomes
    where outcomes.task_hash = :task_hash
      and outcomes.sample_hash = waiting.sample_hash
      and outcomes.attempt = waiting.attempt
      and outcomes.failures >= :parked_after
  )
