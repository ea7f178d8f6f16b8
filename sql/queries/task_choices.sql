-- The tasks of a name with their outcomes by status (attempt 0) as a JSON object, and whether any is ok; the one in
-- use first. :name
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
  exists (select 1 from outcomes where outcomes.task_hash = tasks.hash and outcomes.status = 'ok') as is_labelled
from tasks
where tasks.name = :name
order by tasks.in_use desc, tasks.created_at desc, tasks.hash
