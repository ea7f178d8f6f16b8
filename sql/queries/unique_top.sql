-- The first rows of `unique`. :limit number of rows
select
  dataset_rows.sample_hash,
  samples.module_name,
  dataset_rows.reward,
  dataset_rows.difficulty
from temp.dataset_rows
join samples indexed by samples_by_hash on samples.hash = dataset_rows.sample_hash
order by dataset_rows.position
limit :limit
