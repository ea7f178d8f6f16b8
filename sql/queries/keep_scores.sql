-- Stores the rewards that differ from the newest known. :scored_at UTC, ISO 8601   :run_id
insert into scores (sample_hash, reward, scored_at, run_id)
select
  scored.sample_hash,
  scored.reward,
  :scored_at,
  :run_id
from temp.scored
join samples indexed by samples_by_hash on samples.hash = scored.sample_hash
where coalesce(
    (select scores.reward from scores where scores.sample_hash = scored.sample_hash order by scores.id desc limit 1),
    samples.reward
  ) is not scored.reward
order by scored.line, scored.sample_hash
