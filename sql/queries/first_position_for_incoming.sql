-- Where the rows of the running ingest go when they are added to a source: 0 where each can stand at its
-- own position, else the position after the last. :source_id
select
  case
    when exists (
      select 1
      from incoming_samples
      join source_samples
        on source_samples.source_id = :source_id and source_samples.position = incoming_samples.position
      where source_samples.sample_hash <> incoming_samples.sample_hash
    ) or exists (
      select 1
      from incoming_samples
      join rejected_rows
        on rejected_rows.source_id = :source_id and rejected_rows.position = incoming_samples.position
    ) or exists (
      select 1
      from incoming_rejections
      join source_samples
        on source_samples.source_id = :source_id and source_samples.position = incoming_rejections.position
    ) or exists (
      select 1
      from incoming_rejections
      join rejected_rows
        on rejected_rows.source_id = :source_id and rejected_rows.position = incoming_rejections.position
      where rejected_rows.reason <> incoming_rejections.reason
        or rejected_rows.location <> incoming_rejections.location
        or rejected_rows.content_hash <> incoming_rejections.content_hash
    )
    then 1 + max(
      coalesce((select max(position) from source_samples where source_id = :source_id), -1),
      coalesce((select max(position) from rejected_rows where source_id = :source_id), -1)
    )
    else 0
  end as first
