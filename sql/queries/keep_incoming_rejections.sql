-- Gives the rejected rows of the running ingest to a source.
-- Those of before content was kept get theirs. :source_id   :first position of the first row   :run_id the run that rejected them
insert into rejected_rows (source_id, position, location, reason, run_id, content_hash)
select
  :source_id,
  :first + incoming_rejections.position,
  incoming_rejections.location,
  incoming_rejections.reason,
  :run_id,
  incoming_rejections.content_hash
from incoming_rejections
where :first = 0
  or not exists (
    select 1
    from rejected_rows
    where rejected_rows.source_id = :source_id
      and rejected_rows.location = incoming_rejections.location
      and rejected_rows.reason = incoming_rejections.reason
      and coalesce(rejected_rows.content_hash = incoming_rejections.content_hash, 1)
  )
order by incoming_rejections.position
on conflict (source_id, position) do update
set content_hash = excluded.content_hash
where rejected_rows.content_hash is null
