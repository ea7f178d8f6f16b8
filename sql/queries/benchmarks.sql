-- name: add_benchmark
-- A benchmark that is read for the first time, or again; it waits to be judged. :name :uri :revision :read_at
insert into benchmarks (name, uri, revision, read_at)
values (:name, :uri, :revision, :read_at)
on conflict (name) do update set
  uri = excluded.uri,
  revision = excluded.revision,
  read_at = excluded.read_at,
  judged = 0

-- name: add_fingerprint
-- What is known of a code, in place of what an older reading said; it waits to be judged.
insert into fingerprints (
  code_hash, version, renamed_hash, shape_hash, dataflow_hash, dataflow_parts, settings_hash, parts, reason
)
values (
  :code_hash, :version, :renamed_hash, :shape_hash, :dataflow_hash, :dataflow_parts, :settings_hash, :parts, :reason
)
on conflict (code_hash) do update set
  version = excluded.version,
  renamed_hash = excluded.renamed_hash,
  shape_hash = excluded.shape_hash,
  dataflow_hash = excluded.dataflow_hash,
  dataflow_parts = excluded.dataflow_parts,
  settings_hash = excluded.settings_hash,
  parts = excluded.parts,
  reason = excluded.reason,
  judged = 0

-- name: add_pair
-- A module that is like a problem.
insert into contamination_pairs (benchmark_id, position, code_hash, how, parts, settings_differ)
values (:benchmark_id, :position, :code_hash, :how, :parts, :settings_differ)

-- name: add_problem
-- A problem of a benchmark.
insert into problems (benchmark_id, position, problem, code_hash, code)
values (:benchmark_id, :position, :problem, :code_hash, :code)

-- name: add_verdict
-- What a person says of two codes, in place of what was said before.
insert into verdicts (code_hash, problem_code_hash, verdict, note, decided_at)
values (:code_hash, :problem_code_hash, :verdict, :note, :decided_at)
on conflict (code_hash, problem_code_hash) do update set
  verdict = excluded.verdict,
  note = excluded.note,
  decided_at = excluded.decided_at

-- name: benchmark_named
-- The number of a benchmark by its name.
select benchmarks.id
from benchmarks
where benchmarks.name = :name

-- name: benchmarks
-- All benchmarks by name, with their problems.
select
  benchmarks.id,
  benchmarks.name,
  benchmarks.revision,
  (select count(*) from problems where problems.benchmark_id = benchmarks.id)
from benchmarks
order by benchmarks.name

-- name: counts_by_how
-- Pairs of different code by benchmark and how, with the samples they stand for, those that a person judged, and those
-- of them that are not `different`.
select
  benchmarks.name,
  contamination_pairs.how,
  count(*),
  sum(coded.samples),
  count(verdicts.verdict),
  count(verdicts.verdict) - coalesce(sum(verdicts.verdict = 'different'), 0)
from contamination_pairs
join problems
  on problems.benchmark_id = contamination_pairs.benchmark_id
  and problems.position = contamination_pairs.position
join benchmarks on benchmarks.id = problems.benchmark_id
join (
    select
      samples.code_hash as code_hash,
      count(*) as samples
    from samples indexed by samples_by_hash
    group by samples.code_hash
  ) as coded
  on coded.code_hash = contamination_pairs.code_hash
left join verdicts
  on verdicts.code_hash = contamination_pairs.code_hash
  and verdicts.problem_code_hash = problems.code_hash
group by benchmarks.name, contamination_pairs.how
order by benchmarks.name, contamination_pairs.how

-- name: drop_pairs
-- Forgets the pairs of a benchmark. :benchmark_id
delete from contamination_pairs
where benchmark_id = :benchmark_id

-- name: drop_problems
-- Forgets the problems of a benchmark. :benchmark_id
delete from problems
where benchmark_id = :benchmark_id

-- name: drop_unread_codes
-- Forgets which codes wait to be read.
drop table if exists temp.unread_codes

-- name: fingerprints_of_problems
-- The fingerprints of a benchmark's problems, in their order. :benchmark_id
select
  problems.position,
  fingerprints.code_hash,
  fingerprints.renamed_hash,
  fingerprints.shape_hash,
  fingerprints.dataflow_hash,
  fingerprints.settings_hash,
  fingerprints.dataflow_parts,
  fingerprints.parts
from problems
join fingerprints on fingerprints.code_hash = problems.code_hash
where problems.benchmark_id = :benchmark_id
order by problems.position

-- name: fingerprints_of_samples
-- The fingerprints of all codes that samples have.
select
  fingerprints.code_hash,
  fingerprints.renamed_hash,
  fingerprints.shape_hash,
  fingerprints.dataflow_hash,
  fingerprints.settings_hash,
  fingerprints.dataflow_parts,
  fingerprints.parts
from fingerprints
where fingerprints.code_hash in (select samples.code_hash from samples indexed by samples_by_hash)
order by fingerprints.code_hash

-- name: judged_benchmarks
-- Notes that all benchmarks are compared with all codes of samples.
update benchmarks
set judged = 1
where judged = 0

-- name: judged_codes
-- Notes that all codes of samples are compared with all benchmarks.
update fingerprints
set judged = 1
where judged = 0
  and code_hash in (select samples.code_hash from samples indexed by samples_by_hash)

-- name: pairs
-- Pairs with both codes, strongest first, one of each group of modules with the same dataflow; only those that nobody
-- judged if :open is 1.   :limit number of pairs
select
  chosen.code_hash,
  chosen.benchmark,
  chosen.problem,
  chosen.how,
  chosen.parts,
  chosen.settings_differ,
  chosen.verdict,
  chosen.problem_code_hash,
  chosen.problem_code,
  samples.row,
  field_maps.map
from (
  select
    min(contamination_pairs.code_hash) as code_hash,
    benchmarks.name as benchmark,
    problems.problem as problem,
    contamination_pairs.how as how,
    contamination_pairs.parts as parts,
    contamination_pairs.settings_differ as settings_differ,
    verdicts.verdict as verdict,
    problems.code_hash as problem_code_hash,
    problems.code as problem_code
  from contamination_pairs
  join fingerprints on fingerprints.code_hash = contamination_pairs.code_hash
  join problems
    on problems.benchmark_id = contamination_pairs.benchmark_id
    and problems.position = contamination_pairs.position
  join benchmarks on benchmarks.id = problems.benchmark_id
  left join verdicts
    on verdicts.code_hash = contamination_pairs.code_hash
    and verdicts.problem_code_hash = problems.code_hash
  where :open = 0 or verdicts.verdict is null
  group by
    contamination_pairs.benchmark_id,
    contamination_pairs.position,
    contamination_pairs.how,
    contamination_pairs.settings_differ,
    verdicts.verdict,
    coalesce(fingerprints.dataflow_hash, fingerprints.code_hash)
  order by
    case contamination_pairs.how
      when 'code' then 0
      when 'renamed' then 1
      when 'shape' then 2
      when 'dataflow' then 3
      when 'inside' then 4
      else 5
    end,
    contamination_pairs.parts desc,
    benchmarks.name,
    problems.problem,
    min(contamination_pairs.code_hash)
  limit :limit
) as chosen
join samples on samples.hash = (
    select min(coded.hash)
    from samples as coded indexed by samples_by_hash
    where coded.code_hash = chosen.code_hash
  )
left join mapped_samples on mapped_samples.sample_hash = samples.hash
left join field_maps on field_maps.id = mapped_samples.field_map_id

-- name: pairs_named
-- The pairs whose names begin so: eight characters of the module's hash, `@`, benchmark, `:` and problem.
-- :code_prefix   :problem benchmark and problem, null for all   :limit number of pairs
select distinct
  contamination_pairs.code_hash,
  problems.code_hash,
  benchmarks.name,
  problems.problem
from contamination_pairs
join problems
  on problems.benchmark_id = contamination_pairs.benchmark_id
  and problems.position = contamination_pairs.position
join benchmarks on benchmarks.id = problems.benchmark_id
where substr(contamination_pairs.code_hash, 4, length(:code_prefix)) = :code_prefix
  and (:problem is null or benchmarks.name || ':' || problems.problem = :problem)
order by contamination_pairs.code_hash, benchmarks.name, problems.problem
limit :limit

-- name: unjudged_codes
-- How many codes of samples are not yet compared with all benchmarks.
select count(distinct samples.code_hash)
from samples indexed by samples_by_hash
where samples.code_hash is not null
  and (
    exists (select 1 from benchmarks where benchmarks.judged = 0)
    or not exists (
      select 1
      from fingerprints
      where fingerprints.code_hash = samples.code_hash and fingerprints.judged = 1
    )
  )

-- name: unread_codes
-- Codes that wait to be read, each with a row that holds it and the map that the row is read by, null if none.
-- :after code hash, '' for the first   :limit number of codes
select
  unread.code_hash,
  samples.row,
  field_maps.map
from temp.unread_codes as unread
cross join samples on samples.hash = unread.sample_hash
left join mapped_samples on mapped_samples.sample_hash = unread.sample_hash
left join field_maps on field_maps.id = mapped_samples.field_map_id
where unread.code_hash > :after
order by unread.code_hash
limit :limit

-- name: unread_codes_found
-- Lists the codes of samples that were not read by this version. :version
insert into temp.unread_codes (code_hash, sample_hash)
select
  samples.code_hash,
  min(samples.hash)
from samples indexed by samples_by_hash
where samples.code_hash is not null
  and not exists (
    select 1
    from fingerprints
    where fingerprints.code_hash = samples.code_hash and fingerprints.version = :version
  )
group by samples.code_hash

-- name: unread_codes_table
-- Codes of samples that wait to be read.
create temp table unread_codes (
  code_hash text primary key,  -- as in samples
  sample_hash text not null  -- one that has it
) strict, without rowid

-- name: unread_problems
-- Codes of problems that were not read by this version. :version
select distinct
  problems.code_hash,
  problems.code
from problems
join fingerprints on fingerprints.code_hash = problems.code_hash
where fingerprints.version <> :version
order by problems.code_hash, problems.code
