-- Of a dataset without labels: who else labelled its samples, the most first. :task name of the task
select
  tasks.model,
  tasks.hash,
  count(*) as samples
from tasks
join outcomes on outcomes.task_hash = tasks.hash and outcomes.attempt = 0 and outcomes.status = 'ok'
join temp.eligible on eligible.sample_hash = outcomes.sample_hash
where tasks.name = :task
  and tasks.in_use = 0
group by tasks.hash
order by samples desc, tasks.hash
