-- Samples of a kind in the chosen sources, each once, at its first place.
-- :kind module or rollout   :source_ids JSON list, null for the whole store
insert into temp.eligible (sample_hash, place)
select
  samples.hash,
  coalesce(
    (
      select source_samples.source_id * 1000000000000 + source_samples.position
      from source_samples
      where source_samples.sample_hash = samples.hash
        and (:source_ids is null or source_samples.source_id in (select value from json_each(:source_ids)))
      order by source_samples.source_id, source_samples.position
      limit 1
    ),
    9223372036854775807
  ) as place
from samples indexed by samples_by_hash
where samples.kind = :kind
  and (
    :source_ids is null
    or exists (
      select 1
      from source_samples
      where source_samples.sample_hash = samples.hash
        and source_samples.source_id in (select value from json_each(:source_ids))
    )
  )
