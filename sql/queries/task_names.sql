-- The names of all tasks.
select distinct tasks.name
from tasks
order by tasks.name
