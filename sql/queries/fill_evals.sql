-- Every eligible rollout, in source order; reward is the newest known.
insert into temp.dataset_rows (sample_hash, reward)
select
  samples.hash,
  coalesce(
    (select scores.reward from scores where scores.sample_hash = samples.hash order by scores.id desc limit 1),
    samples.reward
  )
from temp.eligible
join samples indexed by samples_by_hash on samples.hash = eligible.sample_hash
order by eligible.place, eligible.sample_hash
