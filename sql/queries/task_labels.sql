-- name: label_of_sample
-- The label of a sample by a task, as text. :task_hash   :sample_hash
select outcomes.value
from outcomes
where outcomes.task_hash = :task_hash
  and outcomes.sample_hash = :sample_hash
  and outcomes.attempt = 0
  and outcomes.status = 'ok'

-- name: labels_of_task
-- All labels of a task as text, by sample. :task_hash
select
  outcomes.sample_hash,
  outcomes.value
from outcomes
where outcomes.task_hash = :task_hash
  and outcomes.attempt = 0
  and outcomes.status = 'ok'
order by outcomes.sample_hash

-- name: rows_without_label
-- Of the chosen rows of a dataset those that a task has no label of. :task_hash
select count(*) as rows
from temp.dataset_rows
where not exists (
  select 1
  from outcomes
  where outcomes.task_hash = :task_hash
    and outcomes.sample_hash = dataset_rows.sample_hash
    and outcomes.attempt = 0
    and outcomes.status = 'ok'
)

-- name: tasks_by_name
-- The task of each name that is in use, with its model and how its answers are read; hash is null if none is in use.
select
  tasks.name,
  max(iif(tasks.in_use = 1, tasks.hash, null)) as hash,
  max(iif(tasks.in_use = 1, tasks.model, null)) as model,
  max(iif(tasks.in_use = 1, tasks.reader, null)) as reader,
  max(exists (select 1 from outcomes where outcomes.task_hash = tasks.hash and outcomes.status = 'ok')) as is_labelled
from tasks
group by tasks.name
order by tasks.name
