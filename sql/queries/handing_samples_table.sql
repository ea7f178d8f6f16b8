-- The samples that their answers will settle.
create temp table handing_samples (
  request_hash text not null,
  attempt integer not null,
  sample_hash text not null
) strict
