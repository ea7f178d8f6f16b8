-- Percentiles of the lengths of a dataset by nearest rank: total_tokens is the smallest length that covers at
-- least `percentile` % of its samples. A histogram first and a window over that.
create view length_percentiles as
with wanted (percentile, per_mille) as (
  values (50, 500), (75, 750), (90, 900), (95, 950), (99, 990), (99.5, 995), (99.9, 999), (100, 1000)
),
ranked as (
  select
    length_counts.dataset as dataset,
    length_counts.number as number,
    length_counts.total_tokens as total_tokens,
    length_counts.samples as here,
    sum(length_counts.samples) over (
      partition by length_counts.dataset, length_counts.number
      order by length_counts.total_tokens
      rows between unbounded preceding and current row
    ) as covered,
    sum(length_counts.samples) over (
      partition by length_counts.dataset, length_counts.number
      order by length_counts.total_tokens
      rows between unbounded preceding and unbounded following
    ) as samples
  from length_counts
)
select
  ranked.dataset as dataset,
  length_templates.tokenizer as tokenizer,
  length_templates.template_hash as template_hash,
  wanted.percentile as percentile,
  ranked.total_tokens as total_tokens
from ranked
cross join wanted
  on ranked.covered * 1000 >= ranked.samples * wanted.per_mille
  and (ranked.covered - ranked.here) * 1000 < ranked.samples * wanted.per_mille
join length_templates on length_templates.number = ranked.number
