-- Of the chosen samples those without an outcome, those that failed, and those whose status is asked again.
-- :task_hash   :statuses JSON list of statuses to ask again ("failed" among them)   :wants_new 0 or 1
-- :before_run leaves out what an answer of that run or a later one settled; null leaves out nothing
insert into temp.waiting (position, sample_hash, why)
select
  chosen.position,
  chosen.sample_hash,
  coalesce(outcomes.status, 'new')
from temp.chosen
left join outcomes
  on outcomes.sample_hash = chosen.sample_hash
  and outcomes.task_hash = :task_hash
  and outcomes.attempt = 0
where ((outcomes.status is null and :wants_new) or outcomes.status in (select value from json_each(:statuses)))
  and (
    :before_run is null
    or not exists (
      select 1
      from answers
      where answers.request_hash = outcomes.request_hash
        and answers.attempt = outcomes.attempt
        and answers.try = outcomes.try
        and answers.run_id >= :before_run
    )
  )
order by chosen.position
