-- The newest answer to each attempt that is a completion; no row where there is none.
-- :attempts  JSON list of [request hash, attempt]
select
  answers.request_hash,
  answers.attempt,
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
from json_each(:attempts) as asked
cross join answers  -- in this order: one look-up for each
where answers.request_hash = asked.value ->> 0
  and answers.attempt = asked.value ->> 1
  and answers.fault is null
  and answers.try = (
    select max(newest.try)
    from answers as newest
    where newest.request_hash = asked.value ->> 0
      and newest.attempt = asked.value ->> 1
      and newest.fault is null
  )
order by asked.key
