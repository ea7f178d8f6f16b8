-- Samples by kind, and how many of them have a reward above min_reward.
select
  samples.kind,
  count(*) as samples,
  coalesce(sum(
    coalesce(
      (select scores.reward from scores where scores.sample_hash = samples.hash order by scores.id desc limit 1),
      samples.reward
    ) > (select settings.value from settings where settings.key = 'min_reward')
  ), 0) as good
from samples indexed by samples_by_hash
group by samples.kind
order by samples.kind
