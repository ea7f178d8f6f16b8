-- The dataset `records`: samples that are neither modules nor rollouts. reward is the newest known, null where it has none.
create view records as
select
  samples.hash as sample_hash,
  coalesce(
    (select scores.reward from scores where scores.sample_hash = samples.hash order by scores.id desc limit 1),
    samples.reward
  ) as reward,
  samples.row as row
from samples
where samples.kind = 'record'
