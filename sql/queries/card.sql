-- name: all_settings
-- Every setting.
select settings.key, settings.value
from settings
order by settings.key

-- name: card_difficulties
-- The number of a dataset's rows by difficulty.
select
  dataset_rows.difficulty,
  count(*) as rows
from temp.dataset_rows
where dataset_rows.difficulty is not null
group by dataset_rows.difficulty
order by dataset_rows.difficulty

-- name: card_lengths
-- Percentiles of the lengths of a dataset's rows, by nearest rank, per tokenizer and template. Rows with text that is
-- missing in the rendered text are left out.
with ranked as (
  select
    lengths.tokenizer as tokenizer,
    lengths.template_hash as template_hash,
    lengths.total_tokens as total_tokens,
    row_number() over (
      partition by lengths.tokenizer, lengths.template_hash
      order by lengths.total_tokens
    ) as rank,
    count(*) over (partition by lengths.tokenizer, lengths.template_hash) as rows
  from lengths
  cross join temp.dataset_rows on dataset_rows.sample_hash = lengths.sample_hash
  where lengths.total_tokens is not null
    and lengths.unreached is null
),
wanted (percentile) as (
  values (50), (90), (99), (100)
)
select
  ranked.tokenizer,
  ranked.template_hash,
  ranked.rows,
  wanted.percentile,
  min(ranked.total_tokens) as total_tokens
from wanted
join ranked on ranked.rank * 100 >= ranked.rows * wanted.percentile
group by ranked.tokenizer, ranked.template_hash, ranked.rows, wanted.percentile
order by ranked.tokenizer, ranked.template_hash, wanted.percentile

-- name: card_origins
-- The models and licences of a dataset's rows: the model of a rollout, and `licenses` of the row or of its `info`
-- (an object, or JSON as text), as JSON. Null if a row names none.
select
  named.model,
  named.licences,
  count(*) as rows
from (
  select
    described.row ->> '$.model' as model,
    coalesce(
      nullif(described.row -> '$.licenses', 'null'),
      nullif(iif(json_valid(described.info), described.info -> '$.licenses', null), 'null')
    ) as licences
  from (
    select
      samples.row as row,
      nullif(trim(samples.row ->> '$.info', char(9, 10, 13, 32)), '') as info
    from temp.dataset_rows
    cross join samples on samples.hash = dataset_rows.sample_hash
  ) as described
) as named
group by named.model, named.licences
order by rows desc, named.model, named.licences

-- name: card_outcomes
-- The outcomes of a task in use among the eligible samples, by status. :task
select
  outcomes.status,
  count(*) as samples
from tasks
join outcomes on outcomes.task_hash = tasks.hash and outcomes.attempt = 0
join temp.eligible on eligible.sample_hash = outcomes.sample_hash
where tasks.name = :task
  and tasks.in_use = 1
group by outcomes.status
order by outcomes.status

-- name: card_reward_tenths
-- The number of a dataset's rows by reward: -1 below 0, 0 to 9 for that many tenths up to the next, 10 for 1,
-- 11 above 1, null without a reward.
select
  case
    when dataset_rows.reward < 0 then -1
    when dataset_rows.reward > 1 then 11
    else cast(dataset_rows.reward * 10 as integer)
  end as tenths,
  count(*) as rows
from temp.dataset_rows
group by 1
order by 1

-- name: card_rewards
-- Rewards of a dataset's rows by nearest rank: the smallest reward that covers at least `percentile` % of them.
with ranked as (
  select
    dataset_rows.reward as reward,
    row_number() over (order by dataset_rows.reward) as rank,
    count(*) over () as rows
  from temp.dataset_rows
  where dataset_rows.reward is not null
),
wanted (percentile) as (
  values (0), (25), (50), (75), (100)
)
select
  wanted.percentile,
  min(ranked.reward) as reward
from wanted
join ranked on ranked.rank * 100 >= ranked.rows * wanted.percentile
group by wanted.percentile
order by wanted.percentile

-- name: card_sources
-- The sources of a dataset's samples, with their numbers of rows and samples, in the order in which they were first
-- ingested. :source_ids JSON list, null for the whole store   :kind of samples that the sources must have
select
  sources.name,
  sources.kind,
  sources.uri,
  sources.revision,
  sources.split,
  source_counts.rows + source_counts.rejected as read,
  source_counts.rejected,
  case :kind
    when 'module' then source_counts.modules
    when 'record' then source_counts.records
    else source_counts.rollouts
  end as samples
from sources
join source_counts on source_counts.source_id = sources.id
where (:source_ids is null or sources.id in (select value from json_each(:source_ids)))
  and case :kind
    when 'module' then source_counts.modules
    when 'record' then source_counts.records
    else source_counts.rollouts
  end > 0
order by sources.id

-- name: card_stages
-- The number of eligible samples per stage: all, those that a task is about (rollouts above min_reward; all
-- modules), those of these without an outcome, and those in `filtered`.
-- :task name of the task in use, null if the dataset needs none
select
  count(*) as samples,
  coalesce(sum(eligible_samples.is_meant), 0) as meant,
  coalesce(sum(
    eligible_samples.is_meant
    and not exists (
      select 1
      from tasks
      join outcomes on outcomes.task_hash = tasks.hash and outcomes.attempt = 0
      where tasks.name = :task
        and tasks.in_use = 1
        and outcomes.sample_hash = eligible_samples.sample_hash
    )
  ), 0) as unasked,
  (
    select count(*)
    from filtered
    join temp.eligible on eligible.sample_hash = filtered.sample_hash
  ) as filtered
from (
  select
    eligible.sample_hash as sample_hash,
    samples.kind = 'module' or coalesce(
      coalesce(
        (select scores.reward from scores where scores.sample_hash = samples.hash order by scores.id desc limit 1),
        samples.reward
      ) > (select settings.value from settings where settings.key = 'min_reward'),
      0
    ) as is_meant
  from temp.eligible
  join samples indexed by samples_by_hash on samples.hash = eligible.sample_hash
) as eligible_samples

-- name: card_task
-- The task of a name that is in use. :task
select
  tasks.name,
  tasks.hash,
  tasks.model,
  tasks.parameters,
  tasks.template,
  tasks.system
from tasks
where tasks.name = :task
  and tasks.in_use = 1
