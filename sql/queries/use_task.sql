-- The datasets use this task; retire_tasks comes first. :hash
update tasks
set in_use = 1
where hash = :hash
