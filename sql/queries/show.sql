-- name: shown_by_hash
-- The samples whose hash begins with a text, at most :limit. :first and :last bound the hashes that do
select samples.hash, samples.kind, samples.module_name, samples.reward
from samples indexed by samples_by_hash
where samples.hash >= :first
  and samples.hash < :last
order by samples.hash
limit :limit

-- name: shown_by_name
-- The samples of a module name: rollouts with the highest reward first, modules last. :name
select
  samples.hash,
  samples.kind,
  samples.module_name,
  coalesce(
    (select scores.reward from scores where scores.sample_hash = samples.hash order by scores.id desc limit 1),
    samples.reward
  ) as reward
from samples indexed by samples_by_hash
where samples.module_name = :name
order by samples.kind = 'module', reward desc, samples.hash

-- name: shown_kinds
-- The kinds of samples that the store holds, those with the most samples first.
select samples.kind
from samples indexed by samples_by_hash
group by samples.kind
order by count(*) desc, samples.kind

-- name: shown_sample
-- One sample with the facts of its rollout; its texts are read from the row: SQL's JSON functions end them at a NUL.
-- reward is the newest known, row_reward that of the row. A join with `rollouts` would read all of them. :hash
select
  samples.hash as hash,
  samples.kind as kind,
  samples.module_name as module_name,
  samples.code_hash as code_hash,
  coalesce(
    (select scores.reward from scores where scores.sample_hash = samples.hash order by scores.id desc limit 1),
    samples.reward
  ) as reward,
  samples.reward as row_reward,
  (select splits.split from splits where splits.sample_hash = samples.hash) as split,
  (select rollouts.model from rollouts where rollouts.sample_hash = samples.hash) as model,
  (select rollouts.environment from rollouts where rollouts.sample_hash = samples.hash) as environment,
  rollout_facts.example_id as example_id,
  rollout_facts.finish_reason as finish_reason,
  rollout_facts.error as error,
  rollout_facts.prompt_tokens as prompt_tokens,
  rollout_facts.completion_tokens as completion_tokens,
  rollout_facts.reasoning_tokens as reasoning_tokens,
  rollout_facts.rewards as rewards,
  rollout_facts.metrics as metrics,
  samples.row as row
from samples
left join rollout_facts on rollout_facts.sample_hash = samples.hash
where samples.hash = :hash

-- name: shown_sources
-- Where a sample came from. :hash
select sources.name as source, sources.uri, sources.revision, source_samples.position
from source_samples
join sources on sources.id = source_samples.source_id
where source_samples.sample_hash = :hash
order by source_samples.source_id, source_samples.position

-- name: shown_labels
-- Every outcome of a sample with its task, request, answer and cost, those in use first. :hash
select
  tasks.name as task,
  outcomes.status as status,
  outcomes.value as value,
  outcomes.reason as reason,
  tasks.model as model,
  answers.served_model as served_model,
  outcomes.task_hash as task_hash,
  tasks.in_use as in_use,
  outcomes.attempt as attempt,
  outcomes.decided_at as decided_at,
  outcomes.request_hash as request_hash,
  answers.host as host,
  answers.cost_usd as cost_usd,
  answers.prompt_tokens as prompt_tokens,
  answers.completion_tokens as completion_tokens,
  answers.latency_ms as latency_ms,
  answers.content as answer,
  answers.request as request
from tasks
join outcomes on outcomes.task_hash = tasks.hash and outcomes.sample_hash = :hash
left join answers
  on answers.request_hash = outcomes.request_hash
  and answers.attempt = outcomes.attempt
  and answers.try = outcomes.try
order by tasks.name, tasks.in_use desc, tasks.created_at, tasks.hash, outcomes.attempt

-- name: shown_lengths
-- Token counts of a sample. :hash
select lengths.tokenizer, lengths.prompt_tokens, lengths.completion_tokens, lengths.total_tokens, lengths.refusal
from length_templates
join lengths
  on lengths.tokenizer = length_templates.tokenizer
  and lengths.template_hash = length_templates.template_hash
  and lengths.sample_hash = :hash
order by lengths.tokenizer, lengths.template_hash

-- name: shown_standing
-- Why a sample is in `filtered` or not: the threshold, and the status and reason of its rating; null without one. :hash
select
  (select settings.value from settings where settings.key = 'min_reward') as min_reward,
  (select ratings.status from ratings where ratings.sample_hash = :hash) as status,
  (
    select outcomes.reason
    from ratings
    join outcomes
      on outcomes.task_hash = ratings.task_hash
      and outcomes.sample_hash = ratings.sample_hash
      and outcomes.attempt = 0
    where ratings.sample_hash = :hash
  ) as reason

-- name: shown_best
-- The row of `unique` with the module name of a sample of `filtered`. :hash, :name
select unique_best.sample_hash as hash, unique_best.reward as reward
from unique_best
where unique_best.module_name = :name
  or unique_best.sample_hash = :hash
