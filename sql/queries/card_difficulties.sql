-- How many rows of a dataset have which difficulty.
select
  dataset_rows.difficulty,
  count(*) as rows
from temp.dataset_rows
where dataset_rows.difficulty is not null
group by dataset_rows.difficulty
order by dataset_rows.difficulty
