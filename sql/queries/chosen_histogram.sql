-- How many of the chosen samples have which difficulty (null: not rated) and length. :tokenizer, :template_hash
select
  outcomes.value as difficulty,
  lengths.total_tokens as total_tokens,
  count(*) as samples
from temp.measuring
join lengths
  on lengths.tokenizer = :tokenizer
  and lengths.template_hash = :template_hash
  and lengths.sample_hash = measuring.sample_hash
  and lengths.total_tokens is not null
left join outcomes
  on outcomes.task_hash = (select tasks.hash from tasks where tasks.name = 'difficulty' and tasks.in_use = 1)
  and outcomes.sample_hash = measuring.sample_hash
  and outcomes.attempt = 0
group by outcomes.value, lengths.total_tokens
order by lengths.total_tokens, outcomes.value
