-- Every task with its outcomes by status , those in use first; a null status: no outcome at all.
select
  tasks.name,
  tasks.hash,
  tasks.model,
  tasks.in_use,
  outcomes.status,
  count(outcomes.sample_hash) as samples
from tasks
left join outcomes on outcomes.task_hash = tasks.hash
group by tasks.name, tasks.hash, outcomes.status
order by tasks.name, tasks.in_use desc, tasks.created_at, tasks.hash, outcomes.status
