-- What was paid for, by task, model, day (UTC) and run. cost_usd is what answers told, null where none did;
-- answers_without_cost counts those that did not. computed_usd is what tokens and the price that the run knew make
-- beyond what an answer told, all of it where it told none, null where nothing is beyond: both together are what a
-- budget counts. uncounted counts answers that have neither. reserved, reserved_tokens and reserved_usd are requests
-- under a budget that were sent and told no usage: at most so much each.
create view costs as
with
priced as (
  select
    answers.run_id as run_id,
    answers.model as model,
    substr(answers.answered_at, 1, 10) as day,
    answers.cost_usd as cost_usd,
    answers.prompt_tokens as prompt_tokens,
    answers.cached_tokens as cached_tokens,
    answers.completion_tokens as completion_tokens,
    answers.reasoning_tokens as reasoning_tokens,
    case
      when answers.prompt_tokens < coalesce(prices.below_prompt_tokens, 9223372036854775807)
      then (
        (answers.prompt_tokens - min(answers.prompt_tokens, coalesce(answers.cached_tokens, 0)))
          * prices.input_usd
        + min(answers.prompt_tokens, coalesce(answers.cached_tokens, 0)) * prices.cached_input_usd
        + answers.completion_tokens * prices.output_usd
      ) / 1e6
    end as tokens_usd
  from answers
  left join prices on prices.run_id = answers.run_id and prices.model = answers.model
),
told as (
  select
    priced.run_id as run_id,
    priced.model as model,
    priced.day as day,
    priced.cost_usd as cost_usd,
    priced.prompt_tokens as prompt_tokens,
    priced.cached_tokens as cached_tokens,
    priced.completion_tokens as completion_tokens,
    priced.reasoning_tokens as reasoning_tokens,
    case
      when priced.cost_usd is null then priced.tokens_usd
      when round(priced.tokens_usd * 1e12) > round(priced.cost_usd * 1e12) then priced.tokens_usd - priced.cost_usd
    end as computed_usd
  from priced
),
summed as (
  select
    told.run_id as run_id,
    told.model as model,
    told.day as day,
    count(*) as answers,
    sum(told.cost_usd) as cost_usd,
    sum(told.cost_usd is null) as answers_without_cost,
    sum(told.prompt_tokens) as prompt_tokens,
    sum(told.cached_tokens) as cached_tokens,
    sum(told.completion_tokens) as completion_tokens,
    sum(told.reasoning_tokens) as reasoning_tokens,
    sum(told.computed_usd) as computed_usd,
    sum(told.cost_usd is null and told.computed_usd is null) as uncounted,
    0 as reserved,
    null as reserved_tokens,
    null as reserved_usd
  from told
  group by told.run_id, told.model, told.day
  union all
  select
    reservations.run_id,
    reservations.model,
    substr(reservations.reserved_at, 1, 10),
    0,
    null,
    0,
    null,
    null,
    null,
    null,
    null,
    0,
    count(*),
    sum(reservations.tokens),
    sum(reservations.cost_usd)
  from reservations
  group by reservations.run_id, reservations.model, substr(reservations.reserved_at, 1, 10)
)
select
  runs.task as task,
  summed.model as model,
  summed.day as day,
  summed.run_id as run_id,
  sum(summed.answers) as answers,
  sum(summed.cost_usd) as cost_usd,
  sum(summed.answers_without_cost) as answers_without_cost,
  sum(summed.prompt_tokens) as prompt_tokens,
  sum(summed.cached_tokens) as cached_tokens,
  sum(summed.completion_tokens) as completion_tokens,
  sum(summed.reasoning_tokens) as reasoning_tokens,
  sum(summed.computed_usd) as computed_usd,
  sum(summed.uncounted) as uncounted,
  sum(summed.reserved) as reserved,
  sum(summed.reserved_tokens) as reserved_tokens,
  sum(summed.reserved_usd) as reserved_usd
from summed
join runs on runs.id = summed.run_id
group by runs.task, summed.model, summed.day, summed.run_id
