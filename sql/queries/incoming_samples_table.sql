-- The samples of the ingest that is running, in order; temporary.
create temp table if not exists incoming_samples (
  position integer primary key,  -- place in the source, from 0, rejected rows counted
  sample_hash text not null,
  line_hash blob  -- SHA-256 of its line; null for a line seen before
) strict
