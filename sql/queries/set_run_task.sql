-- Which task a run asks about. :run_id   :task_hash
update runs
set task_hash = :task_hash
where id = :run_id
