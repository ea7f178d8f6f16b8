-- Puts a task in use that has an outcome which is ok, if none of its name is in use; gives it if it did. :hash
update tasks
set in_use = 1
where hash = :hash
  and not exists (
    select 1
    from tasks as others
    where others.name = tasks.name and others.in_use = 1
  )
returning name, model, hash
