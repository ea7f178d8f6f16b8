-- The best rollout of each module, highest reward first.
select
  unique_best.module_name,
  unique_best.reward,
  unique_best.difficulty
from unique_best
