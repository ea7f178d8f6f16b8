-- The tasks of a name, the one in use first, then the newest. :name
select
  tasks.hash,
  tasks.model,
  tasks.parameters,
  tasks.in_use,
  tasks.system,
  tasks.template,
  tasks.reader,
  tasks.created_at
from tasks
where tasks.name = :name
order by tasks.in_use desc, tasks.created_at desc, tasks.hash
