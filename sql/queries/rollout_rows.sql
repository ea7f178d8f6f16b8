-- The rows of one side of a dataset of rollouts, in order, with the row's own text as bytes.
-- has_labels as in rollout_facts, null where nobody looked for columns of the row that are called as ours.
-- score is a reward that came later than the row and differs from the row's own, else null. :split null where there are no splits
select
  dataset_rows.sample_hash,
  samples.module_name,
  dataset_rows.reward,
  dataset_rows.difficulty,
  (select ratings.evaluation_raw from ratings where ratings.sample_hash = dataset_rows.sample_hash)
    as evaluation_raw,
  nullif(
    (
      select scores.reward
      from scores
      where scores.sample_hash = dataset_rows.sample_hash
      order by scores.id desc
      limit 1
    ),
    samples.reward
  ) as score,
  (select rollout_facts.has_labels from rollout_facts where rollout_facts.sample_hash = dataset_rows.sample_hash)
    as has_labels,
  cast(samples.row as blob) as text
from temp.dataset_rows
cross join samples on samples.hash = dataset_rows.sample_hash
where dataset_rows.split is :split
order by dataset_rows.rank
