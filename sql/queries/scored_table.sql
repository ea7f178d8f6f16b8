-- Rewards that a file gives.
create temp table scored (
  sample_hash text primary key,  -- the rollout
  reward real not null,  -- as the file says
  line integer not null  -- where it says so
) strict, without rowid
