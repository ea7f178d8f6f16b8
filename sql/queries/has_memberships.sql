-- has_memberships
-- Whether a source has samples. :source_id
select exists (
  select 1
  from source_samples
  where source_samples.source_id = :source_id
)
