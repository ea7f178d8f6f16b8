-- Those of them that a run asks.
create temp table waiting (
  position integer primary key,
  sample_hash text not null,
  attempt integer not null,  -- the how-manieth answer wanted to the same request
  why text not null  -- new, or the status that is asked again
) strict
