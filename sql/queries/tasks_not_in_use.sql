-- Names of tasks that have outcomes while none or several of the name are in use.
select
  tasks.name,
  sum(tasks.in_use) as in_use
from tasks
group by tasks.name
having sum(tasks.in_use) > 1
  or (sum(tasks.in_use) = 0 and sum(exists (select 1 from outcomes where outcomes.task_hash = tasks.hash)) > 0)
order by tasks.name
