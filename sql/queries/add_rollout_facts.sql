-- The narrow facts of a rollout, unless they are there. Columns as in `rollout_facts`.
insert into rollout_facts (
  sample_hash,
  is_empty,
  example_id,
  model,
  environment,
  finish_reason,
  stop_condition,
  is_truncated,
  error,
  prompt_tokens,
  cached_tokens,
  completion_tokens,
  reasoning_tokens,
  generation_ms,
  scoring_ms,
  total_ms,
  rewards,
  metrics,
  error_text
)
values (
  :sample_hash,
  :is_empty,
  :example_id,
  :model,
  :environment,
  :finish_reason,
  :stop_condition,
  :is_truncated,
  :error,
  :prompt_tokens,
  :cached_tokens,
  :completion_tokens,
  :reasoning_tokens,
  :generation_ms,
  :scoring_ms,
  :total_ms,
  :rewards,
  :metrics,
  :error_text
)
on conflict (sample_hash) do nothing
