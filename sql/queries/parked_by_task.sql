-- Samples that failed in so many runs in a row that a plain run leaves them out, by task in use; where none of a name
-- is in use yet, by the newest. :parked_after
select
  tasks.name as task,
  count(*) as samples
from tasks
join outcomes on outcomes.task_hash = tasks.hash
where tasks.hash = (
    select newest.hash
    from tasks as newest
    where newest.name = tasks.name
    order by newest.in_use desc, newest.created_at desc, newest.hash desc
    limit 1
  )
  and outcomes.status = 'failed'
  and outcomes.attempt = 0
  and outcomes.failures >= :parked_after
group by tasks.name
order by tasks.name
