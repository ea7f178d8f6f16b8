-- Forgets what `scored_table` holds.
drop table if exists temp.scored
