-- What reading answers again would conclude, where it differs from what is stored.
create temp table read_again (
  task_hash text not null,  -- as in outcomes
  sample_hash text not null,
  attempt integer not null,
  status text not null,
  value text,
  reason text,
  parser_version text not null,
  primary key (task_hash, sample_hash, attempt)
) strict, without rowid
