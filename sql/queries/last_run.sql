-- The newest run that asked about a task. :task its name
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
order by runs.id desc
limit 1
