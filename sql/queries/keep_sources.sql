-- Leaves only the chosen samples that belong to one of the sources. :source_ids JSON list of ids
delete from temp.chosen
where not exists (
  select 1
  from source_samples
  where source_samples.sample_hash = chosen.sample_hash
    and source_samples.source_id in (select value from json_each(:source_ids))
)
