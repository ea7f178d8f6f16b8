-- The outcomes of a task in use among the eligible samples, by status. :task
select
  outcomes.status,
  count(*) as samples
from tasks
join outcomes on outcomes.task_hash = tasks.hash and outcomes.attempt = 0
join temp.eligible on eligible.sample_hash = outcomes.sample_hash
where tasks.name = :task
  and tasks.in_use = 1
group by outcomes.status
order by outcomes.status
