-- Keeps what came back for one try, raw and whole. Counts in tokens, :latency_ms in ms, :cost_usd in US dollars.
insert into answers (
  request_hash, attempt, try, model, host, finish_reason, prompt_tokens, cached_tokens, completion_tokens,
  reasoning_tokens, cost_usd, latency_ms, run_id, answered_at, fault, refusal, content, reasoning, sent, request,
  response
)
values (
  :request_hash, :attempt, :try, :model, :host, :finish_reason, :prompt_tokens, :cached_tokens, :completion_tokens,
  :reasoning_tokens, :cost_usd, :latency_ms, :run_id, :answered_at, :fault, :refusal, :content, :reasoning, :sent,
  :request, :response
)
