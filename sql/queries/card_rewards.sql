-- Rewards of a dataset's rows by nearest rank: the smallest reward that covers at least `percentile` % of them.
with ranked as (
  select
    dataset_rows.reward as reward,
    row_number() over (order by dataset_rows.reward) as rank,
    count(*) over () as rows
  from temp.dataset_rows
  where dataset_rows.reward is not null
),
wanted (percentile) as (
  values (0), (25), (50), (75), (100)
)
select
  wanted.percentile,
  min(ranked.reward) as reward
from wanted
join ranked on ranked.rank * 100 >= ranked.rows * wanted.percentile
group by wanted.percentile
order by wanted.percentile
