-- Answers to a task that told no cost, or no tokens, and that no reservation counts: the request, to reckon the most
-- that it may have taken. lacks_cost: neither cost nor tokens. The offline model takes none. :task
select
  answers.model as model,
  answers.cost_usd is null as lacks_cost,
  answers.request as request
from runs
join answers on answers.run_id = runs.id
where
  runs.task = :task
  and answers.prompt_tokens + answers.completion_tokens is null
  and answers.host <> 'offline'
  and not exists (
    select 1
    from reservations
    where
      reservations.request_hash = answers.request_hash
      and reservations.attempt = answers.attempt
      and reservations.try = answers.try
  )
