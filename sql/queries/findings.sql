-- name: add_finding
-- What one solution's code shows; replaces what an older checker found. :findings JSON list
insert into findings (solution_hash, version, findings, launches, operators)
values (:solution_hash, :version, :findings, :launches, :operators)
on conflict (solution_hash) do update set
  version = excluded.version,
  findings = excluded.findings,
  launches = excluded.launches,
  operators = excluded.operators

-- name: add_solution
-- Which code a rollout holds.
insert into solutions (sample_hash, solution_hash)
values (:sample_hash, :solution_hash)
on conflict (sample_hash) do update set solution_hash = excluded.solution_hash

-- name: counts_by_flag
-- How many rollouts have which flag, the commonest first.
select
  hack_flags.flag,
  hack_flags.level,
  count(*)
from hack_flags
group by hack_flags.flag, hack_flags.level
order by count(*) desc, hack_flags.flag, hack_flags.level

-- name: counts_by_worst
-- How many rollouts there are by their worst flag; clean for those without.
select
  coalesce(hacks.worst, 'clean'),
  count(*)
from hacks
group by hacks.worst

-- name: is_checked
-- Whether a solution's code was read by this version of the checker. :solution_hash :version
select 1
from findings
where findings.solution_hash = :solution_hash and findings.version = :version

-- name: unchecked_rollouts
-- Rollouts whose code no checker of this version has read, in the order of their hashes, each with the map that its
-- row is read by, null if none.
-- :version of the checker   :after sample hash, '' for the first   :limit number of rows
select
  rollouts.sample_hash,
  rollouts.completion,
  samples.row,
  field_maps.map
from (
  select known.hash as hash
  from samples as known indexed by samples_by_hash
  where known.hash > :after
    and known.kind = 'rollout'
    and not exists (
      select 1
      from solutions
      join findings on findings.solution_hash = solutions.solution_hash
      where solutions.sample_hash = known.hash and findings.version = :version
    )
  order by known.hash
  limit :limit
) as unchecked
cross join samples on samples.hash = unchecked.hash
cross join rollouts on rollouts.sample_hash = unchecked.hash
left join mapped_samples on mapped_samples.sample_hash = unchecked.hash
left join field_maps on field_maps.id = mapped_samples.field_map_id
order by rollouts.sample_hash
