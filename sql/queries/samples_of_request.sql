-- The samples that an answer to a request settles, with the tasks that ask and what they concluded so far
-- (null: nothing). :request_hash, :attempt
select distinct
  handed_out_samples.task_hash,
  handed_out_samples.sample_hash,
  outcomes.status
from handed_out
join handed_out_samples on handed_out_samples.handed_out_id = handed_out.id
left join outcomes
  on outcomes.task_hash = handed_out_samples.task_hash
  and outcomes.sample_hash = handed_out_samples.sample_hash
  and outcomes.attempt = handed_out.attempt
where handed_out.request_hash = :request_hash
  and handed_out.attempt = :attempt
order by handed_out_samples.task_hash, handed_out_samples.sample_hash
