-- Forgets the samples of a run.
drop table if exists temp.chosen
