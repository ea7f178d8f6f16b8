-- Every rollout with the facts that were read from its row. Those that a migration read itself (has_labels is null)
-- are left out: it reads less, and it in other words.
select
  rollout_facts.sample_hash,
  rollout_facts.is_empty,
  rollout_facts.example_id,
  rollout_facts.model,
  rollout_facts.environment,
  rollout_facts.finish_reason,
  rollout_facts.stop_condition,
  rollout_facts.is_truncated,
  rollout_facts.error,
  rollout_facts.prompt_tokens,
  rollout_facts.cached_tokens,
  rollout_facts.completion_tokens,
  rollout_facts.reasoning_tokens,
  rollout_facts.generation_ms,
  rollout_facts.scoring_ms,
  rollout_facts.total_ms,
  rollout_facts.rewards,
  rollout_facts.metrics,
  rollout_facts.error_text,
  rollout_facts.has_labels,
  other_reasoning.reasoning as other_reasoning,
  rollout_facts.other_completion,
  rollout_facts.earlier_errors,
  rollout_facts.unscored,
  rollout_facts.reading,
  samples.row
from rollout_facts
join samples on samples.hash = rollout_facts.sample_hash
left join other_reasoning on other_reasoning.sample_hash = rollout_facts.sample_hash
where rollout_facts.has_labels is not null
