-- The tasks of which some answer is ok as it was read again, the oldest first.
select tasks.hash
from tasks
where tasks.hash in (select read_again.task_hash from temp.read_again where read_again.status = 'ok')
order by tasks.created_at, tasks.hash
