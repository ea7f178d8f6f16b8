-- asking_runs
-- What every run that asked a task was told, the oldest first.
select runs.task_hash, runs.options
from runs
where runs.task is not null
  and runs.task_hash is not null
order by runs.id
