-- One row per source: its rows, the different samples among them by kind, and its rejected rows.
create view source_counts as
select
  sources.id as source_id,
  sources.name as source,
  count(source_samples.position) as rows,
  count(distinct source_samples.sample_hash) as samples,
  count(distinct case samples.kind when 'module' then samples.hash end) as modules,
  count(distinct case samples.kind when 'rollout' then samples.hash end) as rollouts,
  (select count(*) from rejected_rows where rejected_rows.source_id = sources.id) as rejected,
  sources.ingested_at as ingested_at
from sources
left join source_samples on source_samples.source_id = sources.id
left join samples on samples.hash = source_samples.sample_hash
group by sources.id
