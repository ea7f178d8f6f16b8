-- Puts a task in use if none of its name is. :hash, :name of the task
update tasks
set in_use = 1
where hash = :hash
  and not exists (
    select 1
    from tasks as others
    where others.name = :name and others.in_use = 1
  )
