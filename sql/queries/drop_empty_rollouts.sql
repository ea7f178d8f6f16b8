-- Leaves out the chosen rollouts without an answer: there is nothing to judge.
delete from temp.chosen
where exists (
  select 1
  from rollout_facts
  where rollout_facts.sample_hash = chosen.sample_hash and rollout_facts.is_empty = 1
)
