-- The newest run of each command and task, where it did not end with 0; a null status: it runs, or was killed.
select
  runs.id,
  runs.command,
  runs.task,
  runs.started_at,
  runs.status,
  runs.pid
from runs
where runs.id in (select max(newest.id) from runs as newest group by newest.command, newest.task)
  and (runs.status is null or runs.status <> 0)
order by runs.id
