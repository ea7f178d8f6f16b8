-- Gives the rejected rows of the running ingest to a source.
-- :source_id   :first position of the first row   :run_id the run that rejected them
insert into rejected_rows (source_id, position, location, reason, run_id)
select
  :source_id,
  :first + incoming_rejections.position,
  incoming_rejections.location,
  incoming_rejections.reason,
  :run_id
from incoming_rejections
where :first = 0
  or not exists (
    select 1
    from rejected_rows
    where rejected_rows.source_id = :source_id
      and rejected_rows.location = incoming_rejections.location
      and rejected_rows.reason = incoming_rejections.reason
  )
order by incoming_rejections.position
on conflict (source_id, position) do nothing
