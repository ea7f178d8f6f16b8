-- How a task is called and how its answers are read. :hash
select
  tasks.name,
  tasks.reader
from tasks
where tasks.hash = :hash
