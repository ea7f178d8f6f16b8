-- What is peculiar to a dataset's rows: in no source any more; repeats in a source, of which one is kept;
-- numbers that were NaN or infinite and are null; rewards that came later than the row and differ from its own.
-- :source_ids JSON list, null for the whole store
select
  (
    select count(*)
    from temp.dataset_rows
    join temp.eligible on eligible.sample_hash = dataset_rows.sample_hash
    where eligible.place = 9223372036854775807
  ) as sourceless,
  (
    select coalesce(sum(held.places - 1), 0)
    from (
      select count(*) as places
      from temp.dataset_rows
      join source_samples on source_samples.sample_hash = dataset_rows.sample_hash
      where :source_ids is null or source_samples.source_id in (select value from json_each(:source_ids))
      group by source_samples.sample_hash, source_samples.source_id
    ) as held
  ) as repeats,
  (
    select count(*)
    from temp.dataset_rows
    join samples on samples.hash = dataset_rows.sample_hash
    where samples.nonfinite is not null
  ) as nonfinite,
  (
    select count(*)
    from temp.dataset_rows
    join samples indexed by samples_by_hash on samples.hash = dataset_rows.sample_hash
    where nullif(dataset_rows.reward, samples.reward) is not null
  ) as scored
