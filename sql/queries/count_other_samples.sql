-- count_other_samples
-- How many samples of a source did not come in again at any position. :source_id
select count(distinct source_samples.sample_hash)
from source_samples
where source_samples.source_id = :source_id
  and not exists (
    select 1
    from incoming_samples
    where incoming_samples.position = source_samples.position
      and incoming_samples.sample_hash = source_samples.sample_hash
  )
  and source_samples.sample_hash not in (select incoming_samples.sample_hash from incoming_samples)
