-- No task of this name is in use. :name
update tasks
set in_use = 0
where name = :name
