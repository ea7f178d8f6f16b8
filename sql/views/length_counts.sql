-- How many samples of a dataset (`samples`, `filtered`, `unique`) have which length, by number of the tokenizer and
-- template in `length_templates`. Rows that the template refused have no length. Numbers in place of names: to
-- compare two texts for each of a million rows takes longer than all the rest.
create view length_counts as
select
  'samples' as dataset,
  length_templates.number as number,
  lengths.total_tokens as total_tokens,
  count(*) as samples
from length_templates
cross join lengths
  on lengths.tokenizer = length_templates.tokenizer
  and lengths.template_hash = length_templates.template_hash
where lengths.total_tokens >= 0
group by length_templates.number, lengths.total_tokens
