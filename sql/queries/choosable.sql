-- What a run that chose no sample could have chosen among: samples of a kind, those with a reward, the highest
-- reward, and one row of them. :kind module or rollout   :source_ids JSON list, null for the whole store
with rewarded as (
  select
    samples.hash,
    coalesce(
      (select scores.reward from scores where scores.sample_hash = samples.hash order by scores.id desc limit 1),
      samples.reward
    ) as reward
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
)
select
  count(*) as samples,
  count(rewarded.reward) as rewarded,
  max(rewarded.reward) as highest,
  (
    select cast(samples.row as blob)
    from samples
    where samples.hash = (select min(rewarded.hash) from rewarded)
  ) as row
from rewarded
