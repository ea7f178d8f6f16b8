-- name: report_flow
-- What became of the rows: read (places in sources), rejected, samples by kind, rollouts above min_reward (good) and of
-- these by rating, and the rows of filtered and unique by side.
with good as materialized (
  select samples.hash as hash
  from samples indexed by samples_by_hash
  where samples.kind = 'rollout'
    and coalesce(
      (select scores.reward from scores where scores.sample_hash = samples.hash order by scores.id desc limit 1),
      samples.reward
    ) > (select settings.value from settings where settings.key = 'min_reward')
),
rated as materialized (
  select ratings.sample_hash as hash, ratings.status as status
  from ratings
)
select
  (select count(*) from source_samples) + (select count(*) from rejected_rows) as read,
  (select count(*) from rejected_rows) as rejected,
  (select count(*) from source_samples) - (select count(distinct source_samples.sample_hash) from source_samples)
    as repeated,
  (select count(*) from samples indexed by samples_by_hash) as samples,
  (select count(*) from samples indexed by samples_by_hash where samples.kind = 'rollout') as rollouts,
  (select count(*) from good) as good,
  (select count(*) from good join rated on rated.hash = good.hash and rated.status = 'ok') as rated_ok,
  (select count(*) from good join rated on rated.hash = good.hash and rated.status <> 'ok') as rated_not_ok,
  (select count(*) from filtered) as filtered,
  (select count(*) from unique_best) as best,
  (
    select count(*)
    from unique_best
    join splits on splits.sample_hash = unique_best.sample_hash and splits.split = 'train'
  ) as train

-- name: report_reward_range
-- Lowest and highest of the newest known rewards of rollouts; null without one.
select min(known.reward) as lowest, max(known.reward) as highest, count(known.reward) as rewarded
from (
  select coalesce(
    (select scores.reward from scores where scores.sample_hash = samples.hash order by scores.id desc limit 1),
    samples.reward
  ) as reward
  from samples indexed by samples_by_hash
  where samples.kind = 'rollout'
) as known

-- name: report_rewards
-- Rollouts by reward and label: bin n goes from lowest + n * width. label is the difficulty, or why there is none.
-- :lowest, :width in units of reward, :last number of the last bin
with rated as materialized (
  select ratings.sample_hash as hash, coalesce(ratings.difficulty, ratings.status) as label
  from ratings
)
select known.bin, known.label, count(*) as rollouts
from (
  select
    min(cast((coalesce(
      (select scores.reward from scores where scores.sample_hash = samples.hash order by scores.id desc limit 1),
      samples.reward
    ) - :lowest) / :width + 1e-9 as integer), :last) as bin,
    coalesce(rated.label, 'not rated') as label
  from samples indexed by samples_by_hash
  left join rated on rated.hash = samples.hash
  where samples.kind = 'rollout'
) as known
where known.bin is not null
group by known.bin, known.label
order by known.bin, known.label

-- name: report_thresholds
-- Rollouts and different module names above min_reward, and above five other thresholds.
with thresholds (threshold) as (
  values (0.5), (0.7), (0.9), (1.0), (1.2)
  union
  select settings.value from settings where settings.key = 'min_reward'
)
select
  thresholds.threshold,
  count(known.hash) as rollouts,
  count(distinct known.module_name) as names
from thresholds
left join (
  select
    samples.hash as hash,
    samples.module_name as module_name,
    coalesce(
      (select scores.reward from scores where scores.sample_hash = samples.hash order by scores.id desc limit 1),
      samples.reward
    ) as reward
  from samples indexed by samples_by_hash
  where samples.kind = 'rollout'
) as known on known.reward > thresholds.threshold
group by thresholds.threshold
order by thresholds.threshold

-- name: report_reward_models
-- Rollouts with a reward by model, environment and bin of reward, as report_rewards has the bins. model and environment
-- are those of the view rollouts, read from narrow tables.
-- :lowest, :width in units of reward, :last number of the last bin
with said_by_sources as materialized (
  select
    source_samples.sample_hash as hash,
    min(sources.model) as model,
    max(sources.model) as other_model,
    min(sources.environment) as environment,
    max(sources.environment) as other_environment
  from source_samples
  join sources on sources.id = source_samples.source_id
  where sources.model is not null
    or sources.environment is not null
  group by source_samples.sample_hash
)
select
  case
    when said_by_sources.model is null then rollout_facts.model
    when said_by_sources.model = said_by_sources.other_model then said_by_sources.model
  end as model,
  case
    when said_by_sources.environment is null then rollout_facts.environment
    when said_by_sources.environment = said_by_sources.other_environment then said_by_sources.environment
  end as environment,
  min(cast((coalesce(
    (select scores.reward from scores where scores.sample_hash = samples.hash order by scores.id desc limit 1),
    samples.reward
  ) - :lowest) / :width + 1e-9 as integer), :last) as bin,
  count(*) as rollouts
from samples indexed by samples_by_hash
left join rollout_facts on rollout_facts.sample_hash = samples.hash
left join said_by_sources on said_by_sources.hash = samples.hash
where samples.kind = 'rollout'
group by 1, 2, 3
having bin is not null
order by 1, 2, 3

-- name: report_labels
-- Outcomes of the tasks that choose one of several labels, by task, model and label (else the status).
select
  tasks.name as task,
  tasks.model as model,
  tasks.hash as task_hash,
  tasks.in_use as in_use,
  coalesce(outcomes.value, outcomes.status) as label,
  outcomes.status as status,
  count(*) as samples
from tasks
join outcomes on outcomes.task_hash = tasks.hash and outcomes.attempt = 0
where tasks.reader ->> '$.one_of' is not null
group by tasks.name, tasks.in_use, tasks.created_at, tasks.hash, label, outcomes.status
order by tasks.name, tasks.in_use desc, tasks.created_at, tasks.hash, samples desc, label

-- name: report_label_pair
-- Of the tasks of one name that choose a label: the one in use, and the one that labelled most of the same samples.
select used.name as task, used.hash as one, used.model as one_model, other.hash as other, other.model as other_model
from tasks as used
join tasks as other
  on other.name = used.name
  and other.hash <> used.hash
  and other.reader ->> '$.one_of' is not null
join outcomes on outcomes.task_hash = used.hash and outcomes.attempt = 0 and outcomes.status = 'ok'
join outcomes as same
  on same.task_hash = other.hash
  and same.sample_hash = outcomes.sample_hash
  and same.attempt = 0
  and same.status = 'ok'
where used.in_use = 1
  and used.reader ->> '$.one_of' is not null
group by used.hash, other.hash
order by count(*) desc, used.hash, other.hash
limit 1

-- name: report_confusion
-- How two tasks labelled the same samples. :one, :other task hashes
select one.value as one, other.value as other, count(*) as samples
from outcomes as one
join outcomes as other
  on other.task_hash = :other
  and other.sample_hash = one.sample_hash
  and other.attempt = 0
  and other.status = 'ok'
where one.task_hash = :one
  and one.attempt = 0
  and one.status = 'ok'
group by one.value, other.value
order by one.value, other.value

-- name: report_differences
-- Samples that two tasks labelled differently, with the beginning of both answers; and total, how many there are.
-- :one, :other task hashes, :limit number of samples
select
  chosen.hash as hash,
  samples.module_name as module_name,
  chosen.one as one,
  chosen.other as other,
  substr(one_answer.content, 1, 400) as one_answer,
  substr(other_answer.content, 1, 400) as other_answer,
  chosen.total as total
from (
  select
    one.sample_hash as hash,
    one.value as one,
    other.value as other,
    one.request_hash as one_request,
    one.try as one_try,
    other.request_hash as other_request,
    other.try as other_try,
    count(*) over () as total
  from outcomes as one
  join outcomes as other
    on other.task_hash = :other
    and other.sample_hash = one.sample_hash
    and other.attempt = 0
    and other.status = 'ok'
    and other.value <> one.value
  where one.task_hash = :one
    and one.attempt = 0
    and one.status = 'ok'
  order by one.sample_hash
  limit :limit
) as chosen
join samples indexed by samples_by_hash on samples.hash = chosen.hash
left join answers as one_answer
  on one_answer.request_hash = chosen.one_request and one_answer.attempt = 0 and one_answer.try = chosen.one_try
left join answers as other_answer
  on other_answer.request_hash = chosen.other_request and other_answer.attempt = 0 and other_answer.try = chosen.other_try
order by chosen.hash

-- name: report_template
-- The tokenizer and template that most samples were measured with, and how many.
select lengths.tokenizer, lengths.template_hash, count(*) as samples
from lengths
group by lengths.tokenizer, lengths.template_hash
order by samples desc, lengths.tokenizer, lengths.template_hash
limit 1

-- name: report_label_facts
-- What the ratings in use go with: mean reward, and mean length in tokens where it was measured.
-- :tokenizer, :template_hash as in report_template
select
  ratings.difficulty as label,
  count(*) as samples,
  avg(ratings.reward) as mean_reward,
  avg(lengths.total_tokens) as mean_tokens
from ratings
left join lengths
  on lengths.tokenizer = :tokenizer
  and lengths.template_hash = :template_hash
  and lengths.sample_hash = ratings.sample_hash
where ratings.status = 'ok'
group by ratings.difficulty
order by ratings.difficulty

-- name: report_length_curve
-- How many samples of each dataset are up to so many tokens long, at steps of half an octave, as far as the longest.
-- :tokenizer, :template_hash as in report_template
with ticks (tokens) as (
  values
    (64), (91), (128), (181), (256), (362), (512), (724), (1024), (1448), (2048), (2896), (4096), (5793), (8192),
    (11585), (16384), (23170), (32768), (46341), (65536), (92682), (131072), (185364), (262144), (370728), (524288),
    (741455), (1048576)
),
binned as materialized (
  select
    length_counts.dataset as dataset,
    coalesce((select min(ticks.tokens) from ticks where ticks.tokens >= length_counts.total_tokens), 1048577) as tick,
    sum(length_counts.samples) as samples
  from length_counts
  where length_counts.number = (
    select length_templates.number
    from length_templates
    where length_templates.tokenizer = :tokenizer
      and length_templates.template_hash = :template_hash
  )
  group by 1, 2
)
select
  datasets.dataset,
  ticks.tokens,
  coalesce((
    select sum(binned.samples) from binned where binned.dataset = datasets.dataset and binned.tick <= ticks.tokens
  ), 0) as up_to,
  (select sum(binned.samples) from binned where binned.dataset = datasets.dataset) as samples
from (select distinct binned.dataset as dataset from binned) as datasets
cross join ticks
where ticks.tokens <= coalesce(
  (select min(more.tokens) from ticks as more where more.tokens >= (select max(binned.tick) from binned)),
  1048576
)
order by datasets.dataset, ticks.tokens

-- name: report_seq_len
-- The advised seq_len of each dataset, and what it loses and wastes. :tokenizer, :template_hash as in report_template
select
  seq_len_advice.dataset,
  seq_len_advice.percentile,
  seq_len_advice.total_tokens,
  seq_len_advice.seq_len,
  seq_len_advice.samples_over,
  seq_len_advice.tokens_lost,
  seq_len_advice.tokens_padding,
  seq_len_advice.share_padding,
  seq_len_advice.unreached,
  seq_len_advice.refused
from seq_len_advice
where seq_len_advice.tokenizer = :tokenizer
  and seq_len_advice.template_hash = :template_hash
order by seq_len_advice.dataset, seq_len_advice.percentile

-- name: report_choices
-- What is kept of filtered: rows, different names and codes, and the rows that one of each name or of each code makes.
select
  count(*) as rows,
  count(distinct samples.module_name) as names,
  count(distinct samples.code_hash) as codes,
  (select count(*) from unique_best) as by_name,
  count(distinct coalesce(samples.code_hash, samples.hash)) as by_code
from filtered
join samples indexed by samples_by_hash on samples.hash = filtered.sample_hash

-- name: report_names_over_codes
-- The module names under which filtered has the most different codes; and total, how many such names there are.
select
  samples.module_name,
  count(distinct samples.code_hash) as codes,
  count(*) as rows,
  count(*) over () as total
from filtered
join samples indexed by samples_by_hash on samples.hash = filtered.sample_hash
where samples.module_name is not null
group by samples.module_name
having count(distinct samples.code_hash) > 1
order by codes desc, samples.module_name
limit 10

-- name: report_leaks
-- Codes and names that filtered has on both sides of splits, those with most rows first; and total, how many there
-- are of the kind. The view split_leaks compares prompts too, for which it reads every row.
with placed as materialized (
  select samples.code_hash as code_hash, samples.module_name as module_name, splits.split as split
  from filtered
  join samples indexed by samples_by_hash on samples.hash = filtered.sample_hash
  join splits on splits.sample_hash = filtered.sample_hash
),
keyed as (
  select 'code' as kind, placed.code_hash as key, placed.split as split
  from placed
  union all
  select 'name', placed.module_name, placed.split
  from placed
)
select
  keyed.kind,
  keyed.key,
  sum(keyed.split = 'train') as train,
  sum(keyed.split = 'validation') as validation,
  count(*) over (partition by keyed.kind) as total
from keyed
where keyed.key is not null
group by keyed.kind, keyed.key
having sum(keyed.split = 'train') > 0
  and sum(keyed.split = 'validation') > 0
order by keyed.kind, count(*) desc, keyed.key
limit 20

-- name: report_costs
-- What was paid, by day, task and model: as servers told it and by tokens and price; reserved_usd may come on top.
select
  costs.day,
  costs.task,
  costs.model,
  sum(costs.answers) as answers,
  coalesce(sum(costs.cost_usd), 0) + coalesce(sum(costs.computed_usd), 0) as usd,
  sum(costs.uncounted) as uncounted,
  sum(costs.prompt_tokens) as prompt_tokens,
  sum(costs.completion_tokens) as completion_tokens,
  sum(costs.reserved) as reserved,
  sum(costs.reserved_usd) as reserved_usd
from costs
group by costs.day, costs.task, costs.model
order by costs.day, costs.task, costs.model

-- name: report_latency
-- How long answers took by task and model, in milliseconds by nearest rank: half and 95 % of them were there by then.
with ranked as (
  select
    runs.task as task,
    answers.model as model,
    answers.latency_ms as latency_ms,
    row_number() over (partition by runs.task, answers.model order by answers.latency_ms) as rank,
    count(*) over (partition by runs.task, answers.model) as answers
  from answers
  join runs on runs.id = answers.run_id
)
select
  ranked.task,
  ranked.model,
  ranked.answers,
  min(iif(ranked.rank * 100 >= ranked.answers * 50, ranked.latency_ms, null)) as p50_ms,
  min(iif(ranked.rank * 100 >= ranked.answers * 95, ranked.latency_ms, null)) as p95_ms
from ranked
group by ranked.task, ranked.model
order by ranked.task, ranked.model

-- name: report_left_over
-- Outcomes that are not ok by task, status and reason, the most frequent first, with three samples of each as JSON;
-- and total, how many reasons there are.
select
  grouped.task,
  grouped.status,
  grouped.reason,
  max(grouped.place) as samples,
  json_group_array(grouped.hash) filter (where grouped.place <= 3) as examples,
  count(*) over () as total
from (
  select
    tasks.name as task,
    outcomes.status as status,
    outcomes.reason as reason,
    outcomes.sample_hash as hash,
    row_number() over (
      partition by tasks.name, outcomes.status, outcomes.reason
      order by outcomes.sample_hash
    ) as place
  from tasks
  join outcomes indexed by outcomes_not_ok on outcomes.task_hash = tasks.hash and outcomes.status <> 'ok'
  where tasks.in_use = 1
    or not exists (select 1 from tasks as used where used.name = tasks.name and used.in_use = 1)
) as grouped
group by grouped.task, grouped.status, grouped.reason
order by samples desc, grouped.task, grouped.status, grouped.reason
limit 20

-- name: report_rejected
-- Rejected rows by reason, the most frequent first, with three locations of each as JSON; and total, how many reasons
-- there are.
select
  grouped.reason,
  max(grouped.place) as rows,
  json_group_array(grouped.location) filter (where grouped.place <= 3) as examples,
  count(*) over () as total
from (
  select
    rejected_rows.reason as reason,
    rejected_rows.location as location,
    row_number() over (
      partition by rejected_rows.reason
      order by rejected_rows.source_id, rejected_rows.position
    ) as place
  from rejected_rows
) as grouped
group by grouped.reason
order by rows desc, grouped.reason
limit 20

-- name: report_reading
-- Rollouts of filtered that are worth reading: the best, the worst kept, the longest, and one of each label.
-- :tokenizer, :template_hash as in report_template
with kept as materialized (
  select filtered.sample_hash as hash, filtered.reward as reward, filtered.difficulty as label
  from filtered
)
select 1 as place, 'best reward' as why, best.hash
from (select kept.hash as hash from kept order by kept.reward desc, kept.hash limit 1) as best
union all
select 2, 'lowest reward kept', worst.hash
from (select kept.hash as hash from kept order by kept.reward, kept.hash limit 1) as worst
union all
select 3, 'longest', longest.hash
from (
  select kept.hash as hash
  from kept
  join lengths
    on lengths.tokenizer = :tokenizer
    and lengths.template_hash = :template_hash
    and lengths.sample_hash = kept.hash
  where lengths.total_tokens is not null
  order by lengths.total_tokens desc, kept.hash
  limit 1
) as longest
union all
select 4, 'labelled ' || labelled.label, labelled.hash
from (
  select kept.label as label, min(kept.hash) as hash
  from kept
  group by kept.label
  order by kept.label
  limit 4
) as labelled
order by 1, 2

-- name: report_sources
-- Where the samples came from.
select
  sources.name,
  sources.kind,
  sources.uri,
  sources.revision,
  source_counts.rows,
  source_counts.samples,
  source_counts.rejected
from sources
join source_counts on source_counts.source_id = sources.id
order by sources.id

-- name: report_tasks
-- The tasks that were asked, with what makes their hash.
select tasks.name, tasks.hash, tasks.model, tasks.parameters, tasks.in_use, tasks.created_at
from tasks
order by tasks.name, tasks.in_use desc, tasks.created_at, tasks.hash
