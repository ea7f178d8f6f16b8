-- Outcomes of the tasks in use that are not ok, the most frequent reasons first; where none of a name is in use yet,
-- those of the newest.
select
  failures.task,
  failures.status,
  failures.reason,
  count(*) as samples
from failures
join tasks on tasks.hash = failures.task_hash
where tasks.hash = (
    select newest.hash
    from tasks as newest
    where newest.name = tasks.name
    order by newest.in_use desc, newest.created_at desc, newest.hash desc
    limit 1
  )
group by failures.task, failures.status, failures.reason
order by samples desc, failures.task, failures.status, failures.reason
