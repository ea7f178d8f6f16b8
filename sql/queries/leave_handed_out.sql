-- Takes out of what waits the samples whose request is out in a batch file. :task_hash
delete from temp.waiting
where exists (
  select 1
  from handed_out_samples
  join handed_out on handed_out.id = handed_out_samples.handed_out_id
  where handed_out_samples.sample_hash = waiting.sample_hash
    and handed_out_samples.task_hash = :task_hash
    and handed_out.attempt = waiting.attempt
    and handed_out.ending is null
)
