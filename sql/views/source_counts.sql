-- One row per source: its rows, the different samples among them by kind, its rejected rows, and the model and
-- environment that its run says. model_counts counts its rollouts by model and environment.
create view source_counts as
select
  sources.id as source_id,
  sources.name as source,
  coalesce(sum(held.rows), 0) as rows,
  count(held.sample_hash) as samples,
  coalesce(sum(samples.kind = 'module'), 0) as modules,
  coalesce(sum(samples.kind = 'rollout'), 0) as rollouts,
  (select count(*) from rejected_rows where rejected_rows.source_id = sources.id) as rejected,
  sources.ingested_at as ingested_at,
  sources.model as model,
  sources.environment as environment,
  coalesce(sum(samples.kind = 'record'), 0) as records
from sources
left join (
  select
    source_samples.source_id as source_id,
    source_samples.sample_hash as sample_hash,
    count(*) as rows
  from source_samples
  group by source_samples.sample_hash, source_samples.source_id
) as held on held.source_id = sources.id
left join samples indexed by samples_by_hash on samples.hash = held.sample_hash
group by sources.id
