-- The newest answer to an attempt that is a completion; no row where there is none. :request_hash, :attempt
select
  answers.try,
  answers.run_id,
  answers.host,
  answers.finish_reason,
  answers.refusal,
  answers.content,
  answers.reasoning,
  answers.prompt_tokens,
  answers.completion_tokens,
  answers.reasoning_tokens,
  answers.latency_ms
from answers
where answers.request_hash = :request_hash
  and answers.attempt = :attempt
  and answers.fault is null
order by answers.try desc
limit 1
