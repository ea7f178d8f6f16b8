-- The sources of a dataset's samples, with what each holds, in the order in which they were first ingested.
-- :source_ids JSON list, null for the whole store   :kind of samples that the sources must hold
select
  sources.name,
  sources.kind,
  sources.uri,
  sources.revision,
  sources.split,
  source_counts.rows + source_counts.rejected as read,
  source_counts.rejected,
  case :kind when 'module' then source_counts.modules else source_counts.rollouts end as samples
from sources
join source_counts on source_counts.source_id = sources.id
where (:source_ids is null or sources.id in (select value from json_each(:source_ids)))
  and case :kind when 'module' then source_counts.modules else source_counts.rollouts end > 0
order by sources.id
