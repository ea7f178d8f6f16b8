-- The prompts of a file, as a dry run reads them: they are not stored.
create temp table unstored (
  position integer primary key,  -- in the order of the file
  sample_hash text not null unique,
  row text not null
) strict
