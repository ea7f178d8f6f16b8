-- The sequence length that covers 99, 99.5 and 100 % of a dataset: that percentile rounded up to a usual value
-- (1,024 to 131,072, then multiples of 131,072), and what it would lose and waste, as in `length_limits`.
-- unreached counts samples with text that is not in what was counted, and where there are any, seq_len is null:
-- no advice. refused counts samples that the template did not take; nothing is known of their length.
create view seq_len_advice as
with usual (limit_tokens) as (
  values (1024), (2048), (4096), (8192), (16384), (32768), (65536), (131072)
),
faults as (
  select
    at_fault.dataset as dataset,
    at_fault.tokenizer as tokenizer,
    at_fault.template_hash as template_hash,
    sum(at_fault.is_unreached) as unreached,
    sum(at_fault.is_refused) as refused
  from (
    select
      'samples' as dataset,
      lengths.tokenizer as tokenizer,
      lengths.template_hash as template_hash,
      lengths.unreached is not null as is_unreached,
      lengths.refusal is not null as is_refused
    from lengths
    where lengths.unreached is not null
      or lengths.refusal is not null
    union all
    select
      'filtered',
      lengths.tokenizer,
      lengths.template_hash,
      lengths.unreached is not null,
      lengths.refusal is not null
    from lengths
    where (lengths.unreached is not null or lengths.refusal is not null)
      and lengths.sample_hash in (select filtered.sample_hash from filtered)
    union all
    select
      'unique',
      lengths.tokenizer,
      lengths.template_hash,
      lengths.unreached is not null,
      lengths.refusal is not null
    from lengths
    where (lengths.unreached is not null or lengths.refusal is not null)
      and lengths.sample_hash in (select unique_best.sample_hash from unique_best)
  ) as at_fault
  group by at_fault.dataset, at_fault.tokenizer, at_fault.template_hash
),
advised as (
  select
    length_percentiles.dataset as dataset,
    length_percentiles.tokenizer as tokenizer,
    length_percentiles.template_hash as template_hash,
    length_percentiles.percentile as percentile,
    length_percentiles.total_tokens as total_tokens,
    coalesce(
      (select min(usual.limit_tokens) from usual where usual.limit_tokens >= length_percentiles.total_tokens),
      (length_percentiles.total_tokens + 131071) / 131072 * 131072
    ) as seq_len
  from length_percentiles
  where length_percentiles.percentile in (99, 99.5, 100)
),
sums as (
  select
    advised.dataset as dataset,
    advised.tokenizer as tokenizer,
    advised.template_hash as template_hash,
    advised.percentile as percentile,
    advised.total_tokens as total_tokens,
    advised.seq_len as seq_len,
    sum(length_counts.samples) as samples,
    sum(length_counts.samples * (length_counts.total_tokens > advised.seq_len)) as samples_over,
    sum(length_counts.samples * max(length_counts.total_tokens - advised.seq_len, 0)) as tokens_lost,
    sum(length_counts.samples * max(advised.seq_len - length_counts.total_tokens, 0)) as tokens_padding
  from advised
  join length_templates
    on length_templates.tokenizer = advised.tokenizer
    and length_templates.template_hash = advised.template_hash
  join length_counts
    on length_counts.dataset = advised.dataset
    and length_counts.number = length_templates.number
  group by advised.dataset, advised.tokenizer, advised.template_hash, advised.percentile
)
select
  sums.dataset as dataset,
  sums.tokenizer as tokenizer,
  sums.template_hash as template_hash,
  sums.percentile as percentile,
  sums.total_tokens as total_tokens,
  iif(coalesce(faults.unreached, 0) = 0, sums.seq_len, null) as seq_len,
  sums.samples_over as samples_over,
  sums.tokens_lost as tokens_lost,
  sums.tokens_padding as tokens_padding,
  sums.tokens_padding * 1.0 / (sums.samples * sums.seq_len) as share_padding,
  coalesce(faults.unreached, 0) as unreached,
  coalesce(faults.refused, 0) as refused
from sums
left join faults
  on faults.dataset = sums.dataset
  and faults.tokenizer = sums.tokenizer
  and faults.template_hash = sums.template_hash
