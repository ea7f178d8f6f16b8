-- The newest run that asked about a task what was missing, and what its question was: where no run is left over, a
-- resumed one goes on with its model, server and parameters. Retries are left out: their parameters may be others.
-- :task its name   :task_hash null: of those that ended with 0; else of all that asked this
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
  and runs.command not glob 'batch *'
  and coalesce(runs.options ->> '$.retry', '[]') = '[]'
  and (runs.task_hash = :task_hash or (:task_hash is null and runs.status = 0))
  and exists (select 1 from outcomes where outcomes.task_hash = runs.task_hash)
order by runs.id desc
limit 1
