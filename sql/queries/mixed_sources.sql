-- The sources whose rollouts are not all in one other source as well, in the order in which they were first ingested;
-- of those that hold the same rollouts the first. More than one: their rows would mix.
with
held as (
  select
    sources.id as id,
    sources.name as name
  from sources
  where exists (
    select 1
    from source_samples
    join samples indexed by samples_by_hash on samples.hash = source_samples.sample_hash
    where source_samples.source_id = sources.id and samples.kind = 'rollout'
  )
),
contained as materialized (
  select
    held.id as id,
    others.id as within
  from held
  join held as others on others.id <> held.id
  where not exists (
    select 1
    from source_samples
    join samples indexed by samples_by_hash on samples.hash = source_samples.sample_hash
    where source_samples.source_id = held.id
      and samples.kind = 'rollout'
      and not exists (
        select 1
        from source_samples as theirs
        where theirs.sample_hash = source_samples.sample_hash and theirs.source_id = others.id
      )
  )
)
select held.name
from held
where not exists (
  select 1
  from contained
  where contained.id = held.id
    and (
      contained.within < held.id
      or not exists (
        select 1
        from contained as back
        where back.id = contained.within and back.within = held.id
      )
    )
)
order by held.id
