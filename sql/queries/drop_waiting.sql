-- Forgets what a run asks.
drop table if exists temp.waiting
