-- Lengths of a dataset's rows by tokenizer and template, as far as they were measured whole, by nearest rank.
with ranked as (
  select
    lengths.tokenizer as tokenizer,
    lengths.template_hash as template_hash,
    lengths.total_tokens as total_tokens,
    row_number() over (
      partition by lengths.tokenizer, lengths.template_hash
      order by lengths.total_tokens
    ) as rank,
    count(*) over (partition by lengths.tokenizer, lengths.template_hash) as rows
  from lengths
  cross join temp.dataset_rows on dataset_rows.sample_hash = lengths.sample_hash
  where lengths.total_tokens is not null
    and lengths.unreached is null
),
wanted (percentile) as (
  values (50), (90), (99), (100)
)
select
  ranked.tokenizer,
  ranked.template_hash,
  ranked.rows,
  wanted.percentile,
  min(ranked.total_tokens) as total_tokens
from wanted
join ranked on ranked.rank * 100 >= ranked.rows * wanted.percentile
group by ranked.tokenizer, ranked.template_hash, ranked.rows, wanted.percentile
order by ranked.tokenizer, ranked.template_hash, wanted.percentile
