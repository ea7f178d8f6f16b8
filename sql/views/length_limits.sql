-- What a sequence length of limit_tokens would do to a dataset: samples_over are longer, tokens_lost is what they
-- would lose when cut, tokens_padding what the shorter ones would waste, one sample per sequence. By difficulty:
-- `all`, each rating, and null for what is not rated. Shares are 0 to 1.
create view length_limits as
with limits (limit_tokens) as (
  values (1024), (2048), (4096), (8192), (16384), (32768), (65536), (131072)
),
sums as (
  select
    length_buckets.dataset as dataset,
    length_buckets.tokenizer as tokenizer,
    length_buckets.template_hash as template_hash,
    length_buckets.difficulty as difficulty,
    limits.limit_tokens as limit_tokens,
    sum(length_buckets.samples) as samples,
    sum(length_buckets.samples * (length_buckets.over_tokens >= limits.limit_tokens)) as samples_over,
    sum(length_buckets.tokens * (length_buckets.over_tokens >= limits.limit_tokens)) as tokens_over,
    sum(length_buckets.tokens) as tokens
  from length_buckets
  cross join limits
  group by 1, 2, 3, 4, 5
)
select
  sums.dataset as dataset,
  sums.tokenizer as tokenizer,
  sums.template_hash as template_hash,
  sums.difficulty as difficulty,
  sums.limit_tokens as limit_tokens,
  sums.samples as samples,
  sums.samples_over as samples_over,
  sums.samples_over * 1.0 / sums.samples as share_over,
  sums.tokens_over - sums.samples_over * sums.limit_tokens as tokens_lost,
  (sums.samples - sums.samples_over) * sums.limit_tokens - (sums.tokens - sums.tokens_over) as tokens_padding,
  ((sums.samples - sums.samples_over) * sums.limit_tokens - (sums.tokens - sums.tokens_over)) * 1.0
    / (sums.samples * sums.limit_tokens) as share_padding
from sums
