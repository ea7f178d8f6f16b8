-- Chooses the rows of a dataset, in the order in which they lie in the store: wide rows are read one after the other.
insert into temp.measuring (sample_hash)
select dataset_rows.sample_hash
from temp.dataset_rows
join samples on samples.hash = dataset_rows.sample_hash
order by samples.rowid
