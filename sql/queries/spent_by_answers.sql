-- What the answers to a task took so far, by model and by the run's own price, in whole picodollars (1e-12 US
-- dollars) and tokens; answers that a reservation counts are left out. told_pusd is what they told, computed_pusd what
-- tokens and price make beyond that. Answers whose run knew no price, or none for such a long prompt, are unpriced:
-- their tokens, for a price known now, and what they told. is_told: they told a cost; those of 0 are apart. :task
select
  told.model as model,
  told.cost_usd is not null as is_told,
  total(told.told_pusd) as told_pusd,
  total(case when not told.is_unpriced then max(0, told.tokens_pusd - told.told_pusd) end) as computed_pusd,
  coalesce(sum(case when told.is_unpriced then told.fresh_tokens end), 0) as unpriced_fresh_tokens,
  coalesce(sum(case when told.is_unpriced then told.cached_tokens end), 0) as unpriced_cached_tokens,
  coalesce(sum(case when told.is_unpriced then told.completion_tokens end), 0) as unpriced_completion_tokens,
  coalesce(max(case when told.is_unpriced then told.fresh_tokens + told.cached_tokens end), 0) as longest_unpriced,
  total(case when told.is_unpriced then told.told_pusd end) as unpriced_told_pusd,
  coalesce(sum(told.fresh_tokens + told.cached_tokens + told.completion_tokens), 0) as tokens
from (
  select
    counted.model as model,
    counted.cost_usd as cost_usd,
    round(coalesce(counted.cost_usd, 0) * 1e12) as told_pusd,
    counted.fresh_tokens as fresh_tokens,
    counted.cached_tokens as cached_tokens,
    counted.completion_tokens as completion_tokens,
    counted.fresh_tokens * round(prices.input_usd * 1e6)
      + counted.cached_tokens * round(prices.cached_input_usd * 1e6)
      + counted.completion_tokens * round(prices.output_usd * 1e6) as tokens_pusd,
    counted.fresh_tokens + counted.completion_tokens is not null
      and (
        prices.run_id is null
        or counted.fresh_tokens + counted.cached_tokens >= coalesce(prices.below_prompt_tokens, 9223372036854775807)
      ) as is_unpriced
  from (
    select
      answers.run_id as run_id,
      answers.request_hash as request_hash,
      answers.attempt as attempt,
      answers.try as try,
      answers.model as model,
      answers.cost_usd as cost_usd,
      answers.prompt_tokens - min(answers.prompt_tokens, coalesce(answers.cached_tokens, 0)) as fresh_tokens,
      min(answers.prompt_tokens, coalesce(answers.cached_tokens, 0)) as cached_tokens,
      answers.completion_tokens as completion_tokens
    from runs
    join answers on answers.run_id = runs.id
    where runs.task = :task
  ) as counted
  left join prices on prices.run_id = counted.run_id and prices.model = counted.model
  where
    not exists (
      select 1
      from reservations
      where
        reservations.request_hash = counted.request_hash
        and reservations.attempt = counted.attempt
        and reservations.try = counted.try
    )
) as told
group by told.model, told.cost_usd is not null, told.cost_usd > 0
order by told.model, told.cost_usd is not null, told.cost_usd > 0
