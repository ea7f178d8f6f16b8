-- What counts in full for a task, by model: requests that were sent and told no usage. Tokens, whole picodollars
-- (1e-12 US dollars), and the tokens of those that were reserved without a price. :task
select
  reservations.model as model,
  count(*) as reservations,
  sum(reservations.tokens) as tokens,
  total(round(reservations.cost_usd * 1e12)) as pusd,
  coalesce(sum(case when reservations.cost_usd is null then reservations.tokens end), 0) as unpriced_tokens
from runs
join reservations on reservations.run_id = runs.id
where runs.task = :task
group by reservations.model
order by reservations.model
