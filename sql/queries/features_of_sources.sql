-- What the sources of a dataset declare of their columns; null where one declares nothing.
-- :source_ids JSON list, null for the whole store   :kind of samples that the sources must hold
select sources.features
from sources
where (:source_ids is null or sources.id in (select value from json_each(:source_ids)))
  and exists (
    select 1
    from source_samples
    join samples indexed by samples_by_hash on samples.hash = source_samples.sample_hash
    where source_samples.source_id = sources.id and samples.kind = :kind
  )
order by sources.id
