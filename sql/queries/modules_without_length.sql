-- Modules, which have no completion to measure. :source_ids JSON list of the sources they are from, null for any
select count(*) as modules
from samples indexed by samples_by_hash
where samples.kind = 'module'
  and (
    :source_ids is null
    or exists (
      select 1
      from source_samples
      where source_samples.sample_hash = samples.hash
        and source_samples.source_id in (select value from json_each(:source_ids))
    )
  )
