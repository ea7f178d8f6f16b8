-- What was paid for, by task, model, day (UTC) and run. cost_usd is null where no answer told its cost;
-- answers_without_cost counts those that did not.
create view costs as
select
  runs.task as task,
  answers.model as model,
  substr(answers.answered_at, 1, 10) as day,
  answers.run_id as run_id,
  count(*) as answers,
  sum(answers.cost_usd) as cost_usd,
  sum(answers.cost_usd is null) as answers_without_cost,
  sum(answers.prompt_tokens) as prompt_tokens,
  sum(answers.cached_tokens) as cached_tokens,
  sum(answers.completion_tokens) as completion_tokens,
  sum(answers.reasoning_tokens) as reasoning_tokens
from answers
join runs on runs.id = answers.run_id
group by runs.task, answers.model, substr(answers.answered_at, 1, 10), answers.run_id
