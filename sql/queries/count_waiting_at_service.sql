-- How many requests of samples that wait are out in files that a service was asked to begin. :task_hash
select count(distinct handed_out.id)
from temp.waiting
join handed_out_samples
  on handed_out_samples.sample_hash = waiting.sample_hash
  and handed_out_samples.task_hash = :task_hash
join handed_out
  on handed_out.id = handed_out_samples.handed_out_id
  and handed_out.attempt = waiting.attempt
  and handed_out.ending is null
join batches on batches.id = handed_out.batch_id
where batches.create_began_at is not null
