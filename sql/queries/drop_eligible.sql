-- Drops the samples from which a dataset was made.
drop table if exists temp.eligible
