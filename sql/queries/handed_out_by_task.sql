-- What is out in batch files, by task: different samples, and files.
select
  waiting_for_batch.task,
  count(distinct waiting_for_batch.sample_hash) as samples,
  count(distinct waiting_for_batch.batch_id) as files
from waiting_for_batch
group by waiting_for_batch.task
order by waiting_for_batch.task
