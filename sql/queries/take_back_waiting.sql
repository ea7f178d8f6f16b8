-- Takes back from batch files the requests of samples that wait. :task_hash   :ended_at
update handed_out
set ending = 'released', ended_at = :ended_at
where handed_out.ending is null
  and handed_out.id in (
    select handed_out_samples.handed_out_id
    from temp.waiting
    join handed_out_samples
      on handed_out_samples.sample_hash = waiting.sample_hash
      and handed_out_samples.task_hash = :task_hash
    where handed_out.attempt = waiting.attempt
  )
