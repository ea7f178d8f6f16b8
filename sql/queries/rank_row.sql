-- Where a random split has one row. :position :split :rank
update temp.dataset_rows
set
  split = :split,
  rank = :rank
where position = :position
