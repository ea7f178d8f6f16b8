-- Who gave a source its samples. :source_id   :kind of the origin that gives it more
select
  exists (
    select 1
    from source_samples
    where source_samples.source_id = sources.id
  ) as had_samples,
  sources.is_mixed or (sources.kind = 'run') <> (:kind = 'run') as is_of_other_door
from sources
where sources.id = :source_id
