-- Keeps the price that a run reckons with, in US dollars per million tokens.
insert into prices (run_id, model, input_usd, cached_input_usd, output_usd, below_prompt_tokens, source)
values (:run_id, :model, :input_usd, :cached_input_usd, :output_usd, :below_prompt_tokens, :source)
on conflict (run_id, model) do nothing
