-- What the answers to a task took so far, by model and by the run's own price, in whole picodollars (1e-12 US
-- dollars) and tokens; answers that a reservation counts are left out. Answers that told no cost are unpriced where
-- their run knew no price, or none for such a long prompt: their tokens, for a price known now; untold_cost and
-- untold_tokens count those that told neither. :task
select
  told.model as model,
  total(round(told.cost_usd * 1e12)) as told_pusd,
  total(
    case when told.is_priced then
      told.fresh_tokens * round(told.input_usd * 1e6)
      + told.cached_tokens * round(told.cached_input_usd * 1e6)
      + told.completion_tokens * round(told.output_usd * 1e6)
    end
  ) as computed_pusd,
  coalesce(sum(case when told.is_unpriced then told.fresh_tokens end), 0) as unpriced_fresh_tokens,
  coalesce(sum(case when told.is_unpriced then told.cached_tokens end), 0) as unpriced_cached_tokens,
  coalesce(sum(case when told.is_unpriced then told.completion_tokens end), 0) as unpriced_completion_tokens,
  coalesce(max(case when told.is_unpriced then told.fresh_tokens + told.cached_tokens end), 0) as longest_unpriced,
  coalesce(sum(told.fresh_tokens + told.cached_tokens + told.completion_tokens), 0) as tokens
from (
  select
    answers.model as model,
    answers.cost_usd as cost_usd,
    answers.prompt_tokens - min(answers.prompt_tokens, coalesce(answers.cached_tokens, 0)) as fresh_tokens,
    min(answers.prompt_tokens, coalesce(answers.cached_tokens, 0)) as cached_tokens,
    answers.completion_tokens as completion_tokens,
    prices.input_usd as input_usd,
    prices.cached_input_usd as cached_input_usd,
    prices.output_usd as output_usd,
    answers.cost_usd is null
      and answers.prompt_tokens + answers.completion_tokens is not null
      and prices.run_id is not null
      and answers.prompt_tokens < coalesce(prices.below_prompt_tokens, 9223372036854775807) as is_priced,
    answers.cost_usd is null
      and answers.prompt_tokens + answers.completion_tokens is not null
      and (
        prices.run_id is null
        or answers.prompt_tokens >= coalesce(prices.below_prompt_tokens, 9223372036854775807)
      ) as is_unpriced
  from runs
  join answers on answers.run_id = runs.id
  left join prices on prices.run_id = answers.run_id and prices.model = answers.model
  where
    runs.task = :task
    and not exists (
      select 1
      from reservations
      where
        reservations.request_hash = answers.request_hash
        and reservations.attempt = answers.attempt
        and reservations.try = answers.try
    )
) as told
group by told.model
order by told.model
