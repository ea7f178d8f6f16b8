-- A run that reads answers reckons with the price of the run that handed their requests out.
-- :run_id that reads   :from_run_id that handed out
insert into prices (run_id, model, input_usd, cached_input_usd, output_usd, below_prompt_tokens, source)
select
  :run_id,
  prices.model,
  prices.input_usd,
  prices.cached_input_usd,
  prices.output_usd,
  prices.below_prompt_tokens,
  prices.source
from prices
where prices.run_id = :from_run_id
on conflict (run_id, model) do nothing
