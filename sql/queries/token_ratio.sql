-- What the newest answers of a model took: tokens per character of the request, tokens per answer; null
-- where none told its tokens. :model   :limit number of answers
select
  cast(sum(recent.prompt_tokens) as real) / sum(recent.request_characters) as tokens_per_character,
  avg(recent.completion_tokens) as completion_tokens,
  avg(recent.cost_usd) as cost_usd
from (
  select
    answers.prompt_tokens as prompt_tokens,
    answers.completion_tokens as completion_tokens,
    answers.cost_usd as cost_usd,
    length(answers.request) as request_characters
  from answers
  where answers.model = :model and answers.prompt_tokens > 0
  order by answers.run_id desc
  limit :limit
) as recent
