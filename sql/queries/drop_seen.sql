-- Forgets the requests that a dry run has met.
drop table if exists temp.seen
