-- The requests that a dry run has met.
create temp table seen (
  request_hash text not null,  -- as in answers
  attempt integer not null,  -- as in answers
  primary key (request_hash, attempt)
) strict, without rowid
