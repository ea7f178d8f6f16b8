-- The dataset `filtered`: rollouts with a reward above min_reward and a difficulty that could be read.
-- `length_counts` has it as `filtered`.
create view filtered as
select
  ratings.sample_hash as sample_hash,
  ratings.module_name as module_name,
  ratings.reward as reward,
  ratings.difficulty as difficulty,
  ratings.evaluation_raw as evaluation_raw
from ratings
where ratings.status = 'ok'
  and ratings.reward > (select settings.value from settings where settings.key = 'min_reward')
