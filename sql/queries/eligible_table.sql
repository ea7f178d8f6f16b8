-- The samples from which a dataset is made: those of its sources, with their place in source order.
create temp table eligible (
  sample_hash text primary key,
  place integer not null -- source id * 10^12 + position; the largest integer for a sample of no source
) strict, without rowid
