-- Of a dataset's rows those alone for which the user's own condition holds.
delete from temp.dataset_rows
where sample_hash not in (select wanted.sample_hash from temp.wanted)
