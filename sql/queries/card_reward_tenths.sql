-- How many rows of a dataset have which reward: -1 below 0, 0 to 9 from that many tenths up to the next, 10 for
-- 1 itself, 11 above it, null without one.
select
  case
    when dataset_rows.reward < 0 then -1
    when dataset_rows.reward > 1 then 11
    else cast(dataset_rows.reward * 10 as integer)
  end as tenths,
  count(*) as rows
from temp.dataset_rows
group by 1
order by 1
