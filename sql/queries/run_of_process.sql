-- The run about a task that a process is at, and the task; no row where it is at none. :pid
select runs.id, runs.task
from runs
where runs.pid = :pid
  and runs.task is not null
  and runs.status is null
order by runs.id desc
limit 1
