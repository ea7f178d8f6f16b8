-- What changes for the datasets if one task takes the place of another. :before null where there was none   :after
-- labels that differ, samples that have a label only after, samples that had one only before
with old as (
  select outcomes.sample_hash as sample_hash, outcomes.value as value
  from outcomes
  where outcomes.task_hash = :before and outcomes.attempt = 0 and outcomes.status = 'ok'
),
new as (
  select outcomes.sample_hash as sample_hash, outcomes.value as value
  from outcomes
  where outcomes.task_hash = :after and outcomes.attempt = 0 and outcomes.status = 'ok'
)
select
  (select count(*) from new join old on old.sample_hash = new.sample_hash where old.value <> new.value) as differing,
  (select count(*) from new where new.sample_hash not in (select old.sample_hash from old)) as gained,
  (select count(*) from old where old.sample_hash not in (select new.sample_hash from new)) as lost
