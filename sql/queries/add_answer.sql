-- Keeps what came back for one try, raw and whole, as the next try of its attempt.
-- Counts in tokens, :latency_ms in ms, :cost_usd in US dollars.
insert into answers (
  request_hash, attempt, try, model, host, finish_reason, prompt_tokens, cached_tokens, completion_tokens,
  reasoning_tokens, cost_usd, latency_ms, run_id, answered_at, fault, refusal, content, reasoning, sent, request,
  response, served_model
)
values (
  :request_hash,
  :attempt,
  (
    select coalesce(max(answers.try) + 1, 0)
    from answers
    where answers.request_hash = :request_hash and answers.attempt = :attempt
  ),
  :model, :host, :finish_reason, :prompt_tokens, :cached_tokens, :completion_tokens,
  :reasoning_tokens, :cost_usd, :latency_ms, :run_id, :answered_at, :fault, :refusal, :content, :reasoning, :sent,
  :request, :response, :served_model
)
