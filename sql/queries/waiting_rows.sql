-- The next samples that wait, with their rows. :after position   :limit number of samples
select
  waiting.position,
  waiting.sample_hash,
  waiting.why,
  coalesce(
    (select scores.reward from scores where scores.sample_hash = samples.hash order by scores.id desc limit 1),
    samples.reward
  ) as reward,
  cast(samples.row as blob) as row,  -- bytes: UTF-8 is not decoded to be parsed
  waiting.attempt
from temp.waiting
join samples on samples.hash = waiting.sample_hash
where waiting.position > :after
order by waiting.position
limit :limit
