-- The requests of the batch file that is being written.
create temp table handing (
  line integer primary key,
  request_hash text not null,
  attempt integer not null,
  custom_id text not null,
  request text not null,
  unique (request_hash, attempt)
) strict
