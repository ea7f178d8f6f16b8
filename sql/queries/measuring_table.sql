-- The rollouts of a dataset, in the order in which they are measured.
create temp table measuring (
  position integer primary key,  -- from 1
  sample_hash text not null unique
) strict
