-- Samples whose request in a batch file was answered, and whose answer has not become a rollout.
-- :task_hash   :batch_id
insert into temp.waiting (position, sample_hash, attempt, why)
select
  row_number() over (order by handed_out.id, handed_out_samples.sample_hash),
  handed_out_samples.sample_hash,
  handed_out.attempt,
  'answered'
from handed_out
join handed_out_samples
  on handed_out_samples.handed_out_id = handed_out.id
  and handed_out_samples.task_hash = :task_hash
where handed_out.batch_id = :batch_id
  and handed_out.ending = 'answered'
  and not exists (
    select 1
    from generations
    where generations.task_hash = :task_hash
      and generations.problem_hash = handed_out_samples.sample_hash
      and generations.attempt = handed_out.attempt
      and generations.request_hash = handed_out.request_hash
  )
