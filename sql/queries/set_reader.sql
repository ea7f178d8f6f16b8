-- How the answers of a task are read from now on. :hash of the task   :reader JSON   :closing text or null
update tasks
set
  reader = :reader,
  closing = :closing
where hash = :hash
