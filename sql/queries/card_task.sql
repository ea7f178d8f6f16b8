-- The task of a name that is in use. :task
select
  tasks.hash,
  tasks.model,
  tasks.parameters,
  tasks.template,
  tasks.system
from tasks
where tasks.name = :task
  and tasks.in_use = 1
