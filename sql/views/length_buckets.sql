-- How many samples of a dataset lie in which range of lengths, and their tokens in all: more than over_tokens, up to
-- up_to_tokens (null: no end), by difficulty: `all`, each rating, and null for what is not rated. share is of the
-- samples of that difficulty, 0 to 1.
create view length_buckets as
with bounds (over_tokens, up_to_tokens) as (
  values
    (0, 1024), (1024, 2048), (2048, 4096), (4096, 8192), (8192, 16384), (16384, 32768), (32768, 65536),
    (65536, 131072), (131072, null)
),
placed as (
  select
    'samples' as dataset,
    length_templates.number as number,
    outcomes.value as difficulty,
    lengths.total_tokens as total_tokens
  from length_templates
  cross join lengths
    on lengths.tokenizer = length_templates.tokenizer
    and lengths.template_hash = length_templates.template_hash
  left join outcomes
    on outcomes.task_hash = (select tasks.hash from tasks where tasks.name = 'difficulty' and tasks.in_use = 1)
    and outcomes.sample_hash = lengths.sample_hash
    and outcomes.attempt = 0
  where lengths.refusal is null
  union all
  select
    'filtered',
    length_templates.number,
    filtered.difficulty,
    lengths.total_tokens
  from filtered
  cross join length_templates
  cross join lengths
    on lengths.tokenizer = length_templates.tokenizer
    and lengths.template_hash = length_templates.template_hash
    and lengths.sample_hash = filtered.sample_hash
  where lengths.refusal is null
  union all
  select
    'unique',
    length_templates.number,
    unique_best.difficulty,
    lengths.total_tokens
  from unique_best
  cross join length_templates
  cross join lengths
    on lengths.tokenizer = length_templates.tokenizer
    and lengths.template_hash = length_templates.template_hash
    and lengths.sample_hash = unique_best.sample_hash
  where lengths.refusal is null
),
counted as materialized (
  select
    placed.dataset as dataset,
    placed.number as number,
    placed.difficulty as difficulty,
    case
      when placed.total_tokens <= 1024 then 0
      when placed.total_tokens <= 2048 then 1024
      when placed.total_tokens <= 4096 then 2048
      when placed.total_tokens <= 8192 then 4096
      when placed.total_tokens <= 16384 then 8192
      when placed.total_tokens <= 32768 then 16384
      when placed.total_tokens <= 65536 then 32768
      when placed.total_tokens <= 131072 then 65536
      else 131072
    end as over_tokens,
    count(*) as samples,
    sum(placed.total_tokens) as tokens
  from placed
  group by 1, 2, 3, 4
),
parts as (
  select
    counted.dataset as dataset,
    counted.number as number,
    counted.difficulty as difficulty,
    counted.over_tokens as over_tokens,
    counted.samples as samples,
    counted.tokens as tokens
  from counted
  union all
  select
    counted.dataset,
    counted.number,
    'all',
    counted.over_tokens,
    sum(counted.samples),
    sum(counted.tokens)
  from counted
  group by counted.dataset, counted.number, counted.over_tokens
),
wholes as (
  select
    parts.dataset as dataset,
    parts.number as number,
    parts.difficulty as difficulty,
    sum(parts.samples) as samples
  from parts
  group by parts.dataset, parts.number, parts.difficulty
)
select
  wholes.dataset as dataset,
  length_templates.tokenizer as tokenizer,
  length_templates.template_hash as template_hash,
  wholes.difficulty as difficulty,
  bounds.over_tokens as over_tokens,
  bounds.up_to_tokens as up_to_tokens,
  coalesce(parts.samples, 0) as samples,
  coalesce(parts.samples, 0) * 1.0 / wholes.samples as share,
  coalesce(parts.tokens, 0) as tokens
from wholes
join length_templates on length_templates.number = wholes.number
cross join bounds
left join parts
  on parts.dataset = wholes.dataset
  and parts.number = wholes.number
  and parts.difficulty is wholes.difficulty
  and parts.over_tokens = bounds.over_tokens
