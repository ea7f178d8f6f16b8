-- The samples for which the user's own condition holds.
create temp table wanted (sample_hash text primary key) strict, without rowid
