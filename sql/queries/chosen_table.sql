-- The samples that a run is about, in source order.
create temp table chosen (
  position integer primary key,  -- from 1, in the order of asking
  sample_hash text not null unique
) strict
