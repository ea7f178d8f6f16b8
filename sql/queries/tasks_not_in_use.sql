-- Names of tasks that have outcomes which are ok while none of the name is in use, or several are.
select
  tasks.name,
  sum(tasks.in_use) as in_use
from tasks
group by tasks.name
having sum(tasks.in_use) > 1
  or (
    sum(tasks.in_use) = 0
    and sum(exists (select 1 from outcomes where outcomes.task_hash = tasks.hash and outcomes.status = 'ok')) > 0
  )
order by tasks.name
