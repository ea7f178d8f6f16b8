-- The rows keep the dataset's order. :is_split 1: on the side where `splits` has them; 0: on no side
update temp.dataset_rows
set
  rank = position,
  split = iif(
    :is_split,
    (select splits.split from splits where splits.sample_hash = dataset_rows.sample_hash),
    null
  )
