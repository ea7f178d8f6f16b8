-- name: filtered_count
-- Rows of the dataset `filtered`.
select count(*) as samples
from filtered

-- name: label_changes
-- What changes for the datasets if one task replaces another. :before null if there was none   :after
-- labels that differ, samples that have a label only after, samples that had one only before
with old as (
  select outcomes.sample_hash as sample_hash, outcomes.value as value
  from outcomes
  where outcomes.task_hash = :before and outcomes.attempt = 0 and outcomes.status = 'ok'
),
new as (
  select outcomes.sample_hash as sample_hash, outcomes.value as value
  from outcomes
  where outcomes.task_hash = :after and outcomes.attempt = 0 and outcomes.status = 'ok'
)
select
  (select count(*) from new join old on old.sample_hash = new.sample_hash where old.value <> new.value) as differing,
  (select count(*) from new where new.sample_hash not in (select old.sample_hash from old)) as gained,
  (select count(*) from old where old.sample_hash not in (select new.sample_hash from new)) as lost

-- name: retire_tasks
-- No task of this name is in use. :name
update tasks
set in_use = 0
where name = :name

-- name: task_choices
-- The tasks of a name with their outcomes by status (attempt 0) as a JSON object, whether any is ok, and how answers are
-- read; the one in use first. :name
select
  tasks.hash,
  tasks.model,
  tasks.parameters,
  tasks.in_use,
  (
    select json_group_object(counted.status, counted.samples)
    from (
      select outcomes.status as status, count(*) as samples
      from outcomes
      where outcomes.task_hash = tasks.hash and outcomes.attempt = 0
      group by outcomes.status
    ) as counted
  ) as outcomes,
  exists (select 1 from outcomes where outcomes.task_hash = tasks.hash and outcomes.status = 'ok') as is_labelled,
  tasks.reader
from tasks
where tasks.name = :name
order by tasks.in_use desc, tasks.created_at desc, tasks.hash

-- name: use_task
-- The datasets use this task; retire_tasks comes first. :hash
update tasks
set in_use = 1
where hash = :hash
