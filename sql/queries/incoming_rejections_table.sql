-- The rejected rows of the ingest that is running; temporary.
create temp table if not exists incoming_rejections (
  position integer primary key,  -- place in the source, from 0
  location text not null,  -- FILE:LINE
  reason text not null
) strict
