-- How many of the chosen samples were not measured yet. :tokenizer, :template_hash
select count(*) as samples
from temp.measuring
where not exists (
  select 1
  from lengths
  where lengths.tokenizer = :tokenizer
    and lengths.template_hash = :template_hash
    and lengths.sample_hash = measuring.sample_hash
)
