-- What was paid for, by task and model. cost_usd is null where no answer told its cost.
select
  costs.task,
  costs.model,
  sum(costs.answers) as answers,
  sum(costs.cost_usd) as cost_usd,
  sum(costs.answers_without_cost) as answers_without_cost,
  sum(costs.prompt_tokens) as prompt_tokens,
  sum(costs.completion_tokens) as completion_tokens
from costs
group by costs.task, costs.model
order by costs.task, costs.model
