-- Forgets what `examples_table` holds.
drop table if exists temp.examples
