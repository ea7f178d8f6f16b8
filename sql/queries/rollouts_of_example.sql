-- The different rollouts that an example may mean, each with a place; three at most, to name them.
-- :example   :source name of one source, null for any   :attempt number, null for any
select
  examples.sample_hash,
  sources.name as source,
  min(examples.position) as position
from temp.examples
join sources on sources.id = examples.source_id
where examples.example = :example
  and (:source is null or sources.name = :source)
  and (:attempt is null or examples.attempt = :attempt)
group by examples.sample_hash
order by sources.id, min(examples.position), examples.sample_hash
limit 3
