-- Of the chosen samples those without an outcome, those that failed, and those whose status is asked again.
-- :task_hash   :statuses JSON list of statuses to ask again ("failed" among them)   :wants_new 0 or 1
insert into temp.waiting (position, sample_hash, why, old_request_hash, old_try)
select
  chosen.position,
  chosen.sample_hash,
  coalesce(outcomes.status, 'new'),
  outcomes.request_hash,
  outcomes.try
from temp.chosen
left join outcomes
  on outcomes.sample_hash = chosen.sample_hash
  and outcomes.task_hash = :task_hash
  and outcomes.attempt = 0
where (outcomes.status is null and :wants_new)
  or outcomes.status in (select value from json_each(:statuses))
order by chosen.position
