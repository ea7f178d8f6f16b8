-- The rejected rows of the ingest that is running; temporary.
create temp table if not exists incoming_rejections (
  position integer primary key,  -- place in the source, from 0
  location text not null,  -- FILE:LINE
  reason text not null,
  content_hash blob  -- SHA-256 of the row as it was read; null for the fault of a file
) strict
