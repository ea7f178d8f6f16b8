-- How many rows of a dataset are on which side; without splits the side is null.
select
  dataset_rows.split,
  count(*) as rows
from temp.dataset_rows
group by dataset_rows.split
order by dataset_rows.split
