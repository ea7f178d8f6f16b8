-- What was measured of the chosen samples: how many, and their tokens in all. :tokenizer, :template_hash
select
  count(*) as rollouts,
  count(lengths.total_tokens) as measured,
  count(lengths.refusal) as refused,
  count(lengths.unreached) as unreached,
  coalesce(sum(lengths.prompt_tokens), 0) as prompt_tokens,
  coalesce(sum(lengths.completion_tokens), 0) as completion_tokens
from temp.measuring
left join lengths
  on lengths.tokenizer = :tokenizer
  and lengths.template_hash = :template_hash
  and lengths.sample_hash = measuring.sample_hash
