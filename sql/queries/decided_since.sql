-- How many outcomes a task has had since a run began, without those that failed: they are asked again. What was paid
-- for is known by its run, whatever the clock said; what an older answer settled, by the time alone.
-- :task_hash   :run_id the run   :since when it began, UTC, ISO 8601
select count(*)
from outcomes
left join answers
  on answers.request_hash = outcomes.request_hash
  and answers.attempt = outcomes.attempt
  and answers.try = outcomes.try
where outcomes.task_hash = :task_hash
  and outcomes.status <> 'failed'
  and (answers.run_id >= :run_id or outcomes.decided_at >= :since)
