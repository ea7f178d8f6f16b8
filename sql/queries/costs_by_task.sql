-- What was paid for, by task and model. cost_usd is null where no answer told its cost, computed_usd where tokens and
-- price make nothing beyond that; reserved_usd is what requests without usage may have cost at most.
select
  costs.task,
  costs.model,
  sum(costs.answers) as answers,
  sum(costs.cost_usd) as cost_usd,
  sum(costs.answers_without_cost) as answers_without_cost,
  sum(costs.prompt_tokens) as prompt_tokens,
  sum(costs.completion_tokens) as completion_tokens,
  sum(costs.computed_usd) as computed_usd,
  sum(costs.uncounted) as uncounted,
  sum(costs.reserved) as reserved,
  sum(costs.reserved_usd) as reserved_usd
from costs
group by costs.task, costs.model
order by costs.task, costs.model
