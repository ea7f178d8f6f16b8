-- Takes from a source the rejected rows that did not come in again just so. :source_id
delete from rejected_rows
where source_id = :source_id
  and not exists (
    select 1
    from incoming_rejections
    where incoming_rejections.position = rejected_rows.position
      and incoming_rejections.location = rejected_rows.location
      and incoming_rejections.reason = rejected_rows.reason
      and (rejected_rows.content_hash is null or rejected_rows.content_hash = incoming_rejections.content_hash)
  )
