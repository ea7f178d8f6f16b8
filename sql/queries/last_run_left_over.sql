-- The newest run about a task that did not end with 0: stopped, killed, or with something left over. :task its name
select
  runs.id,
  runs.command,
  runs.options,
  runs.task,
  runs.task_hash,
  runs.started_at,
  runs.ended_at,
  runs.status,
  runs.pid
from runs
where runs.task = :task
  and (runs.status is null or runs.status <> 0)
order by runs.id desc
limit 1
