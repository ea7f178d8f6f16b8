-- Takes from a source the samples that did not come in again at the same position. :source_id
delete from source_samples
where source_id = :source_id
  and not exists (
    select 1
    from incoming_samples
    where incoming_samples.position = source_samples.position
      and incoming_samples.sample_hash = source_samples.sample_hash
  )
