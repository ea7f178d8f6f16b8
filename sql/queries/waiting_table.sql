-- Those of them that a run asks.
create temp table waiting (
  position integer primary key,
  sample_hash text not null,
  why text not null,  -- new, failed, or the status that is asked again
  old_request_hash text,  -- the request that settled the outcome to be replaced
  old_try integer
) strict
