-- How many rollouts have no reward, neither their own nor a later one.
select count(*) as rollouts
from samples indexed by samples_by_reward
where samples.kind = 'rollout'
  and samples.reward is null
  and not exists (select 1 from scores where scores.sample_hash = samples.hash)
