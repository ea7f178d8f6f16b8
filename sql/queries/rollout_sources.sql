-- The sources that hold rollouts, in the order in which they were first ingested.
select
  sources.id,
  sources.name
from sources
where exists (
  select 1
  from source_samples
  join samples indexed by samples_by_hash on samples.hash = source_samples.sample_hash
  where source_samples.source_id = sources.id and samples.kind = 'rollout'
)
order by sources.id
