-- How many places a source of rollouts has, different rollouts in them, and places of those that were cut.
-- :name of the source
select
  count(source_samples.position) as places,
  count(distinct source_samples.sample_hash) as different,
  coalesce(sum(rollout_facts.is_truncated), 0) as cut
from sources
join source_samples on source_samples.source_id = sources.id
left join rollout_facts on rollout_facts.sample_hash = source_samples.sample_hash
where sources.name = :name
group by sources.id
