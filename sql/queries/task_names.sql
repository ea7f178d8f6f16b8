-- The names of the tasks that have outcomes.
select distinct tasks.name
from tasks
where exists (select 1 from outcomes where outcomes.task_hash = tasks.hash)
order by tasks.name
