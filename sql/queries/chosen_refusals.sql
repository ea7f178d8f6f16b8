-- Why the template refused chosen samples, how often, and one of them. :tokenizer, :template_hash
select
  lengths.refusal as reason,
  count(*) as samples,
  min(lengths.sample_hash) as example
from lengths
join temp.measuring on measuring.sample_hash = lengths.sample_hash
where lengths.tokenizer = :tokenizer
  and lengths.template_hash = :template_hash
  and lengths.refusal is not null
group by lengths.refusal
order by count(*) desc, lengths.refusal
