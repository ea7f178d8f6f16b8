-- Samples that failed in so many runs in a row that a plain run leaves them out, by task in use. :parked_after
select
  tasks.name as task,
  count(*) as samples
from tasks
join outcomes on outcomes.task_hash = tasks.hash
where tasks.in_use = 1
  and outcomes.status = 'failed'
  and outcomes.attempt = 0
  and outcomes.failures >= :parked_after
group by tasks.name
order by tasks.name
