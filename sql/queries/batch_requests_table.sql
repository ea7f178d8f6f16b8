-- The requests of the batch that is being recorded; temporary.
create temp table if not exists batch_requests (
  id integer primary key,  -- in the order of the input files
  custom_id text not null,
  body text not null,  -- JSON
  unique (custom_id, id)
) strict
