-- Fields of chosen samples whose text the rendered text lacks, in how many samples, and one of them.
-- :tokenizer, :template_hash
select
  field.value as field,
  count(*) as samples,
  min(lengths.sample_hash) as example
from lengths
join temp.measuring on measuring.sample_hash = lengths.sample_hash
join json_each(lengths.unreached) as field
where lengths.tokenizer = :tokenizer
  and lengths.template_hash = :template_hash
  and lengths.unreached is not null
group by field.value
order by count(*) desc, field.value
