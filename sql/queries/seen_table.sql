-- The requests that a dry run has met.
create temp table seen (
  request_hash text primary key  -- as in answers
) strict, without rowid
