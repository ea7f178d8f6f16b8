-- The next prompts of an unstored file that wait; as `waiting_rows`. :after position   :limit number of them
select
  waiting.position,
  waiting.sample_hash,
  waiting.why,
  null as reward,
  cast(unstored.row as blob) as row,
  waiting.attempt
from temp.waiting
join temp.unstored on unstored.sample_hash = waiting.sample_hash
where waiting.position > :after
order by waiting.position
limit :limit
