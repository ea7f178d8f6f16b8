-- Samples whose request stands in a batch file that has not been read: nobody asks them until it is read,
-- has expired, or is taken back.
create view waiting_for_batch as
select
  handed_out_samples.sample_hash as sample_hash,
  tasks.name as task,
  handed_out_samples.task_hash as task_hash,
  handed_out.attempt as attempt,
  handed_out.request_hash as request_hash,
  handed_out.custom_id as custom_id,
  handed_out.batch_id as batch_id,
  batches.file as file
from handed_out
join batches on batches.id = handed_out.batch_id
join handed_out_samples on handed_out_samples.handed_out_id = handed_out.id
join tasks on tasks.hash = handed_out_samples.task_hash
where handed_out.ending is null
