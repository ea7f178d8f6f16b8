-- Drops the rows of a dataset.
drop table if exists temp.dataset_rows
