-- Every task with what its hash is made of, and how its answers are read.
select
  tasks.hash,
  tasks.name,
  tasks.model,
  tasks.parameters,
  tasks.system,
  tasks.template,
  tasks.reader
from tasks
order by tasks.name, tasks.hash
