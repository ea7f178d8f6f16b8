-- The rows of a dataset. Without splits, split is null in every row.
create temp table dataset_rows (
  position integer primary key, -- from 1, in the dataset's order
  sample_hash text not null unique,
  reward real, -- the newest known
  difficulty text,
  split text,
  rank integer, -- order within the split
  unique (split, rank)
) strict
