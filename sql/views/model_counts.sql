-- One row per source, model and environment of its rollouts: places, different rollouts, those without an answer,
-- those with an error, and those with a reward. What the run says wins over what the row says.
create view model_counts as
select
  sources.id as source_id,
  sources.name as source,
  coalesce(sources.model, held.model) as model,
  coalesce(sources.environment, held.environment) as environment,
  sum(held.rows) as rows,
  count(*) as rollouts,
  coalesce(sum(held.is_empty), 0) as empty,
  coalesce(sum(held.error is not null), 0) as errors,
  sum(held.reward is not null) as rewarded
from sources
join (
  select
    source_samples.source_id as source_id,
    source_samples.sample_hash as sample_hash,
    count(*) as rows,
    rollout_facts.model as model,
    rollout_facts.environment as environment,
    rollout_facts.is_empty as is_empty,
    rollout_facts.error as error,
    coalesce(
      (
        select scores.reward
        from scores
        where scores.sample_hash = source_samples.sample_hash
        order by scores.id desc
        limit 1
      ),
      samples.reward
    ) as reward
  from source_samples
  join samples indexed by samples_by_hash on samples.hash = source_samples.sample_hash and samples.kind = 'rollout'
  left join rollout_facts on rollout_facts.sample_hash = source_samples.sample_hash
  group by source_samples.sample_hash, source_samples.source_id
) as held on held.source_id = sources.id
group by sources.id, coalesce(sources.model, held.model), coalesce(sources.environment, held.environment)
