-- Every place of every rollout that names its example. An attempt is that of the answer by which it was settled:
-- one that was asked again and took another answer's place does not count.
insert into temp.examples (example, sample_hash, source_id, position, attempt)
select
  case
    when typeof(rollout_facts.example_id) = 'real' and rollout_facts.example_id = cast(rollout_facts.example_id as integer)
      then cast(cast(rollout_facts.example_id as integer) as text)
    else cast(rollout_facts.example_id as text)
  end,
  rollout_facts.sample_hash,
  source_samples.source_id,
  source_samples.position,
  outcomes.attempt
from rollout_facts
join source_samples on source_samples.sample_hash = rollout_facts.sample_hash
left join generations
  on generations.source_id = source_samples.source_id and generations.position = source_samples.position
left join outcomes
  on outcomes.task_hash = generations.task_hash
  and outcomes.sample_hash = generations.problem_hash
  and outcomes.attempt = generations.attempt
  and outcomes.request_hash = generations.request_hash
  and outcomes.try = generations.try
where rollout_facts.example_id is not null
