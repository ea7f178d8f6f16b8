-- How long a dataset's rows are, by tokenizer and template that measured all of them: the longest, in tokens.
-- A tokenizer whose template took none of them says nothing.
select
  lengths.tokenizer,
  max(lengths.total_tokens) as total_tokens
from temp.dataset_rows
join lengths on lengths.sample_hash = dataset_rows.sample_hash
group by lengths.tokenizer, lengths.template_hash
having count(*) = (select count(*) from temp.dataset_rows)
  and max(lengths.total_tokens) is not null
order by lengths.tokenizer, lengths.template_hash
