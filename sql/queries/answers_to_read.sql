-- The outcomes of a task that an answer settled, with that answer, after an attempt at a sample. :task_hash
-- :after sample hash, '' for the first   :after_attempt number   :limit number of outcomes
select
  outcomes.sample_hash,
  outcomes.attempt,
  outcomes.status,
  outcomes.value,
  outcomes.reason,
  outcomes.parser_version,
  samples.module_name,
  answers.finish_reason,
  answers.refusal,
  answers.content,
  answers.reasoning,
  answers.fault
from outcomes
join samples indexed by samples_by_hash on samples.hash = outcomes.sample_hash
join answers
  on answers.request_hash = outcomes.request_hash
  and answers.attempt = outcomes.attempt
  and answers.try = outcomes.try
where outcomes.task_hash = :task_hash
  and (outcomes.sample_hash, outcomes.attempt) > (:after, :after_attempt)
order by outcomes.sample_hash, outcomes.attempt
limit :limit
