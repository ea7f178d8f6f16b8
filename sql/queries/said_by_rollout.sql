-- The model and the environment that a rollout itself names; null where it names none.
-- :hash  the sample
select
  rollout_facts.model,
  rollout_facts.environment
from rollout_facts
where rollout_facts.sample_hash = :hash
