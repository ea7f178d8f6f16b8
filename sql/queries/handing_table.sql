-- The requests of the batch file that is being written.
create temp table handing (
  line integer primary key,
  request_hash text not null,
  attempt integer not null,
  custom_id text not null,
  request text not null,
  tokens integer,  -- at most, where a budget reserves it; null without one, as the next
  pusd integer,  -- picodollars at most
  unique (request_hash, attempt)
) strict
