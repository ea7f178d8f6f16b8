-- How many outcomes a task has had since a time, without those that failed: they are asked again.
-- :task_hash   :since UTC, ISO 8601
select count(*)
from outcomes
where outcomes.task_hash = :task_hash
  and outcomes.decided_at >= :since
  and outcomes.status <> 'failed'
