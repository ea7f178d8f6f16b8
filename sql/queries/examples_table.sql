-- Rollouts by the example that they are an attempt at.
create temp table examples (
  example text not null,  -- example_id as text; integral numbers without a fraction
  sample_hash text not null,  -- the rollout
  source_id integer not null,  -- a source that holds it
  position integer not null,  -- its first place there
  attempt integer,  -- which attempt, where it was generated here and settled it; else null
  primary key (example, sample_hash, source_id, position)
) strict, without rowid
