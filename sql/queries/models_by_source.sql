-- Whose rollouts each source holds, in the order in which the sources were first read; nothing where no source is a
-- run, so that a store without runs is not counted through.
select
  model_counts.source,
  model_counts.model,
  model_counts.environment,
  model_counts.rows,
  model_counts.rollouts,
  model_counts.empty,
  model_counts.errors,
  model_counts.rewarded
from model_counts
where exists (select 1 from sources where sources.kind = 'run' or sources.is_mixed = 1)
  and (model_counts.model is not null or model_counts.environment is not null)
order by model_counts.source_id, model_counts.model, model_counts.environment
