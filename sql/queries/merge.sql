-- name: added_samples_table
-- Samples of the other store that this batch adds.
create temp table added_samples (
  hash text primary key
) strict, without rowid

-- name: read_otherwise_table
-- Samples that both stores have and read by different maps.
create temp table read_otherwise (
  sample_hash text primary key
) strict, without rowid

-- name: merged_runs_table
-- Runs of the other store by their id there, and here.
create temp table merged_runs (
  their_id integer primary key,
  our_id integer not null
) strict

-- name: merged_rollouts_table
-- Attempts of the other store that became rollouts, where this store has the same request.
create temp table merged_rollouts (
  request_hash text not null,
  attempt integer not null,
  try integer not null,  -- the answer that became one
  primary key (request_hash, attempt)
) strict, without rowid

-- name: merged_attempts_table
-- Attempts that have another number here than there.
create temp table merged_attempts (
  request_hash text not null,
  attempt integer not null,  -- there
  our_attempt integer not null,
  primary key (request_hash, attempt)
) strict, without rowid

-- name: merged_tries_table
-- Answers to attempts that this store has answers to as well, and those whose attempt has another number here.
create temp table merged_tries (
  request_hash text not null,
  attempt integer not null,  -- there, as try
  try integer not null,
  our_attempt integer not null,
  our_try integer,  -- null until it has its number
  is_new integer not null,  -- 0: the same answer is here
  primary key (request_hash, attempt, try)
) strict, without rowid

-- name: merged_ok_table
-- Attempts with new answers whose outcome is ok, here (1) or there (0).
create temp table merged_ok (
  request_hash text not null,
  our_attempt integer not null,
  is_ours integer not null,
  primary key (request_hash, our_attempt, is_ours)
) strict, without rowid

-- name: shifted_attempts_table
-- Attempts whose answers here keep the last word: their tries move up by the number of new ones.
create temp table shifted_attempts (
  request_hash text not null,
  attempt integer not null,
  tries integer not null,
  primary key (request_hash, attempt)
) strict, without rowid

-- name: their_outcomes_view
-- Outcomes of the other store with attempt and try as they are here; none of a sample that is read otherwise there.
create temp view their_outcomes as
select
  theirs.sample_hash,
  theirs.task_hash,
  coalesce(moved.our_attempt, theirs.attempt) as attempt,
  theirs.status,
  coalesce(tries.our_try, theirs.try) as try,
  theirs.request_hash,
  theirs.parser_version,
  theirs.decided_at,
  theirs.reason,
  theirs.value,
  theirs.failures
from other.outcomes as theirs
left join temp.merged_attempts as moved
  on moved.request_hash = theirs.request_hash and moved.attempt = theirs.attempt
left join temp.merged_tries as tries
  on tries.request_hash = theirs.request_hash and tries.attempt = theirs.attempt and tries.try = theirs.try
where not exists (select 1 from temp.read_otherwise where read_otherwise.sample_hash = theirs.sample_hash)

-- name: their_reservations_view
-- Reservations of the other store's runs, with run, attempt and try as they are here.
create temp view their_reservations as
select
  theirs.id,
  merged_runs.our_id as run_id,
  their_run.ended_at as run_ended_at,
  theirs.request_hash,
  coalesce(moved.our_attempt, theirs.attempt) as attempt,
  coalesce(tries.our_try, theirs.try) as try,
  theirs.model,
  theirs.tokens,
  theirs.cost_usd,
  theirs.reserved_at
from other.reservations as theirs
join other.runs as their_run on their_run.id = theirs.run_id
join temp.merged_runs on merged_runs.their_id = theirs.run_id
left join temp.merged_attempts as moved
  on moved.request_hash = theirs.request_hash and moved.attempt = theirs.attempt
left join temp.merged_tries as tries
  on tries.request_hash = theirs.request_hash and tries.attempt = theirs.attempt and tries.try = theirs.try

-- name: merged_sources_table
-- Sources of the other store by their id there, and here.
create temp table merged_sources (
  their_id integer primary key,
  our_id integer not null,
  is_appended integer not null  -- 1: its places are those of merged_places; 0: they are the same
) strict

-- name: merged_places_table
-- Places in sources that grow, there and here.
create temp table merged_places (
  their_source integer not null,
  their_position integer not null,
  our_position integer not null,
  primary key (their_source, their_position)
) strict, without rowid

-- name: merged_scores_table
-- All scores of both, in the order of their time.
create temp table merged_scores (
  id integer primary key,
  sample_hash text not null,
  reward real not null,
  scored_at text not null,
  run_id integer not null
) strict

-- name: merged_tokenizers_table
-- The one name of each tokenizer.
create temp table merged_tokenizers (
  template_hash text primary key,
  tokenizer text not null
) strict, without rowid

-- name: merged_batches_table
-- Batch files of the other store by their id there, and here.
create temp table merged_batches (
  their_id integer primary key,
  our_id integer not null
) strict

-- name: merged_handed_out_table
-- Requests in batch files of the other store by their id there, and here.
create temp table merged_handed_out (
  their_id integer primary key,
  our_id integer not null
) strict

-- name: their_rows
-- How many rows each table of the other store has.
select 'samples' as name, count(*) as rows from other.samples
union all
select 'rollout_facts', count(*) from other.rollout_facts
union all
select 'other_reasoning', count(*) from other.other_reasoning
union all
select 'original_lines', count(*) from other.original_lines
union all
select 'originals', count(*) from other.originals
union all
select 'field_maps', count(*) from other.field_maps
union all
select 'mapped_samples', count(*) from other.mapped_samples
union all
select 'known_lines', count(*) from other.known_lines
union all
select 'findings', count(*) from other.findings
union all
select 'solutions', count(*) from other.solutions
union all
select 'fingerprints', count(*) from other.fingerprints
union all
select 'benchmarks', count(*) from other.benchmarks
union all
select 'problems', count(*) from other.problems
union all
select 'contamination_pairs', count(*) from other.contamination_pairs
union all
select 'verdicts', count(*) from other.verdicts
union all
select 'runs', count(*) from other.runs
union all
select 'tasks', count(*) from other.tasks
union all
select 'answers', count(*) from other.answers
union all
select 'sources', count(*) from other.sources
union all
select 'source_samples', count(*) from other.source_samples
union all
select 'rejected_rows', count(*) from other.rejected_rows
union all
select 'scores', count(*) from other.scores
union all
select 'outcomes', count(*) from other.outcomes
union all
select 'lengths', count(*) from other.lengths
union all
select 'batches', count(*) from other.batches
union all
select 'handed_out', count(*) from other.handed_out
union all
select 'handed_out_samples', count(*) from other.handed_out_samples
union all
select 'batch_results', count(*) from other.batch_results
union all
select 'generations', count(*) from other.generations
union all
select 'prices', count(*) from other.prices
union all
select 'reservations', count(*) from other.reservations
union all
select 'settings', count(*) from other.settings

-- name: unreadable_rows
-- Rows of the other store that no view could be made of, or read: what they are.
select 'the reader of task ' || tasks.hash as what
from other.tasks
where json_type(tasks.reader) <> 'object'
union all
select 'the findings of solution ' || findings.solution_hash
from other.findings
where json_type(findings.findings) <> 'array'
  or exists (select 1 from json_each(findings.findings) as found where found.type <> 'object')

-- name: our_tables
-- The tables of a store as this kbetl makes them, and their text.
select ours.name, ours.sql
from main.sqlite_schema as ours
where ours.type = 'table'
  and ours.name not glob 'sqlite_*'
order by ours.name

-- name: their_tables
-- The tables of the other store, and their text.
select theirs.name, theirs.sql
from other.sqlite_schema as theirs
where theirs.type = 'table'

-- name: last_of_batch
-- The last of the next samples; null at the end. :after rowid   :limit number of samples
select max(page.id)
from (
  select samples.rowid as id
  from other.samples
  where samples.rowid > :after
  order by samples.rowid
  limit :limit
) as page

-- name: clear_added_samples
-- Forgets the batch before.
delete from temp.added_samples

-- name: note_added_samples
-- The samples of a batch that are not here. :after, :upto rowids
insert into temp.added_samples (hash)
select theirs.hash
from other.samples as theirs
where theirs.rowid > :after
  and theirs.rowid <= :upto
  and not exists (select 1 from main.samples as ours where ours.hash = theirs.hash)

-- name: unreadable_samples
-- A sample of this batch that no view could read: its row is no JSON, or its completion has no path within it.
select theirs.hash
from temp.added_samples
cross join other.samples as theirs on theirs.hash = added_samples.hash
left join other.rollout_facts as facts on facts.sample_hash = theirs.hash
where not json_valid(theirs.row)
  or json_type('{}', facts.completion_path) is not null
limit 1

-- name: add_their_samples
-- Adds the samples of a batch that are not here, in their order. :after, :upto rowids
insert into main.samples (hash, kind, module_name, code_hash, code_point, name_point, reward, nonfinite, row)
select
  theirs.hash,
  theirs.kind,
  theirs.module_name,
  theirs.code_hash,
  theirs.code_point,
  theirs.name_point,
  theirs.reward,
  theirs.nonfinite,
  theirs.row
from other.samples as theirs
where theirs.rowid > :after
  and theirs.rowid <= :upto
  and theirs.hash in (select added_samples.hash from temp.added_samples)
order by theirs.rowid

-- name: add_their_facts
-- The facts of the samples of this batch.
insert into main.rollout_facts (
  sample_hash, is_empty, example_id, model, environment, finish_reason, stop_condition, is_truncated, error,
  prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens, generation_ms, scoring_ms, total_ms, rewards,
  metrics, error_text, has_labels, other_completion, earlier_errors, unscored, reading, completion_path
)
select
  theirs.sample_hash,
  theirs.is_empty,
  theirs.example_id,
  theirs.model,
  theirs.environment,
  theirs.finish_reason,
  theirs.stop_condition,
  theirs.is_truncated,
  theirs.error,
  theirs.prompt_tokens,
  theirs.cached_tokens,
  theirs.completion_tokens,
  theirs.reasoning_tokens,
  theirs.generation_ms,
  theirs.scoring_ms,
  theirs.total_ms,
  theirs.rewards,
  theirs.metrics,
  theirs.error_text,
  theirs.has_labels,
  theirs.other_completion,
  theirs.earlier_errors,
  theirs.unscored,
  theirs.reading,
  theirs.completion_path
from temp.added_samples
cross join other.rollout_facts as theirs on theirs.sample_hash = added_samples.hash

-- name: add_their_reasoning
-- The reasoning beside the messages of the samples of this batch.
insert into main.other_reasoning (sample_hash, reasoning)
select theirs.sample_hash, theirs.reasoning
from temp.added_samples
cross join other.other_reasoning as theirs on theirs.sample_hash = added_samples.hash

-- name: add_their_original_lines
-- The lines that the samples of this batch came from.
insert into main.original_lines (hash, line)
select lines.hash, lines.line
from temp.added_samples
cross join other.originals on originals.sample_hash = added_samples.hash
cross join other.original_lines as lines on lines.hash = originals.line_hash
where true
on conflict (hash) do nothing

-- name: add_their_originals
-- Which line each sample of this batch came from.
insert into main.originals (sample_hash, position, line_hash)
select theirs.sample_hash, theirs.position, theirs.line_hash
from temp.added_samples
cross join other.originals as theirs on theirs.sample_hash = added_samples.hash

-- name: maps_of_batch
-- The maps by which samples of this batch are read. Their paths are derived here.
select theirs.map
from other.field_maps as theirs
where theirs.id in (
    select mapped_samples.field_map_id
    from temp.added_samples
    cross join other.mapped_samples on mapped_samples.sample_hash = added_samples.hash
  )
order by theirs.id

-- name: add_their_mapped_samples
-- By which map each sample of this batch is read.
insert into main.mapped_samples (sample_hash, field_map_id)
select theirs.sample_hash, ours.id
from temp.added_samples
cross join other.mapped_samples as theirs on theirs.sample_hash = added_samples.hash
cross join other.field_maps as maps on maps.id = theirs.field_map_id
cross join main.field_maps as ours on ours.map = maps.map

-- name: note_read_otherwise
-- The samples that both stores have and read by different maps.
insert into temp.read_otherwise (sample_hash)
select theirs.sample_hash
from other.mapped_samples as theirs
join other.field_maps as maps on maps.id = theirs.field_map_id
where not exists (
    select 1
    from main.mapped_samples as ours
    join main.field_maps as our_maps on our_maps.id = ours.field_map_id
    where ours.sample_hash = theirs.sample_hash and our_maps.map = maps.map
  )
union
select ours.sample_hash
from main.mapped_samples as ours
join other.samples as theirs on theirs.hash = ours.sample_hash
where not exists (select 1 from other.mapped_samples where mapped_samples.sample_hash = ours.sample_hash)

-- name: add_their_findings
-- What solutions show, by code; what a newer checker says wins.
insert into main.findings (solution_hash, version, findings, launches, operators)
select theirs.solution_hash, theirs.version, theirs.findings, theirs.launches, theirs.operators
from other.findings as theirs
where true
on conflict (solution_hash) do update set
  version = excluded.version,
  findings = excluded.findings,
  launches = excluded.launches,
  operators = excluded.operators
where excluded.version > findings.version

-- name: add_their_solutions
-- Which solution each rollout holds that both read alike; what a newer checker read wins.
insert into main.solutions (sample_hash, solution_hash)
select theirs.sample_hash, theirs.solution_hash
from other.solutions as theirs
where not exists (select 1 from temp.read_otherwise where read_otherwise.sample_hash = theirs.sample_hash)
on conflict (sample_hash) do update set solution_hash = excluded.solution_hash
where (select findings.version from main.findings where findings.solution_hash = excluded.solution_hash)
  > (select findings.version from main.findings where findings.solution_hash = solutions.solution_hash)

-- name: add_their_fingerprints
-- Hashes of modules, by code; those of a newer reading win. They were not compared with the benchmarks that are here.
insert into main.fingerprints (
  code_hash, version, renamed_hash, shape_hash, dataflow_hash, dataflow_parts, settings_hash, parts, reason, judged
)
select
  theirs.code_hash,
  theirs.version,
  theirs.renamed_hash,
  theirs.shape_hash,
  theirs.dataflow_hash,
  theirs.dataflow_parts,
  theirs.settings_hash,
  theirs.parts,
  theirs.reason,
  0
from other.fingerprints as theirs
where true
on conflict (code_hash) do update set
  version = excluded.version,
  renamed_hash = excluded.renamed_hash,
  shape_hash = excluded.shape_hash,
  dataflow_hash = excluded.dataflow_hash,
  dataflow_parts = excluded.dataflow_parts,
  settings_hash = excluded.settings_hash,
  parts = excluded.parts,
  reason = excluded.reason,
  judged = excluded.judged
where excluded.version > fingerprints.version

-- name: add_their_benchmarks
-- Benchmarks of a name that is not here. They were not compared with the codes that are here.
insert into main.benchmarks (name, uri, revision, read_at, judged)
select theirs.name, theirs.uri, theirs.revision, theirs.read_at, 0
from other.benchmarks as theirs
where true
order by theirs.id
on conflict (name) do nothing

-- name: add_their_problems
-- Problems of benchmarks that both have at one revision.
insert into main.problems (benchmark_id, position, problem, code_hash, code)
select ours.id, theirs.position, theirs.problem, theirs.code_hash, theirs.code
from other.problems as theirs
join other.benchmarks as named on named.id = theirs.benchmark_id
join main.benchmarks as ours on ours.name = named.name and ours.revision = named.revision
where true
on conflict (benchmark_id, position) do nothing

-- name: add_their_contamination_pairs
-- Pairs with problems of benchmarks that both have at one revision.
insert into main.contamination_pairs (benchmark_id, position, code_hash, how, parts, settings_differ)
select ours.id, theirs.position, theirs.code_hash, theirs.how, theirs.parts, theirs.settings_differ
from other.contamination_pairs as theirs
join other.benchmarks as named on named.id = theirs.benchmark_id
join main.benchmarks as ours on ours.name = named.name and ours.revision = named.revision
where true
on conflict (code_hash, benchmark_id, position) do nothing

-- name: benchmarks_that_differ
-- Benchmarks of one name that were read at two revisions.
select theirs.name
from other.benchmarks as theirs
join main.benchmarks as ours on ours.name = theirs.name
where ours.revision <> theirs.revision
order by theirs.name

-- name: add_their_verdicts
-- What persons said of two codes.
insert into main.verdicts (code_hash, problem_code_hash, verdict, note, decided_at)
select theirs.code_hash, theirs.problem_code_hash, theirs.verdict, theirs.note, theirs.decided_at
from other.verdicts as theirs
where true
on conflict (code_hash, problem_code_hash) do nothing

-- name: verdicts_that_differ
-- How many pairs of codes have another verdict there.
select count(*) as verdicts
from other.verdicts as theirs
join main.verdicts as ours
  on ours.code_hash = theirs.code_hash and ours.problem_code_hash = theirs.problem_code_hash
where ours.verdict <> theirs.verdict

-- name: add_their_lines
-- Lines of files whose sample is known.
insert into main.known_lines (line_hash, sample_hash)
select theirs.line_hash, theirs.sample_hash
from other.known_lines as theirs
where true
on conflict (line_hash) do nothing

-- name: add_their_runs
-- Runs that are not here. :label of the other store
insert into main.runs (
  command, options, started_at, ended_at, status, pid, task, task_hash, counts, cost_usd, kbetl_version, command_line,
  origin
)
select
  theirs.command,
  theirs.options,
  theirs.started_at,
  theirs.ended_at,
  theirs.status,
  theirs.pid,
  theirs.task,
  theirs.task_hash,
  theirs.counts,
  theirs.cost_usd,
  theirs.kbetl_version,
  theirs.command_line,
  coalesce(theirs.origin, :label)
from other.runs as theirs
where not exists (
    select 1
    from main.runs as ours
    where ours.started_at = theirs.started_at
      and ours.pid = theirs.pid
      and ours.command = theirs.command
      and ours.options = theirs.options
      and ours.kbetl_version = theirs.kbetl_version
  )
order by theirs.id

-- name: map_runs
-- Which run here each of theirs is.
insert into temp.merged_runs (their_id, our_id)
select theirs.id, min(ours.id)
from other.runs as theirs
join main.runs as ours
  on ours.started_at = theirs.started_at
  and ours.pid = theirs.pid
  and ours.command = theirs.command
  and ours.options = theirs.options
  and ours.kbetl_version = theirs.kbetl_version
group by theirs.id

-- name: end_their_runs
-- The ends of runs that were not over when they came in.
update main.runs
set
  task = theirs.task,
  task_hash = theirs.task_hash,
  ended_at = theirs.ended_at,
  status = theirs.status,
  counts = theirs.counts,
  cost_usd = theirs.cost_usd
from temp.merged_runs
join other.runs as theirs on theirs.id = merged_runs.their_id
where runs.id = merged_runs.our_id
  and runs.ended_at is null
  and runs.origin is not null
  and (theirs.ended_at is not null or theirs.task_hash is not runs.task_hash)

-- name: add_their_tasks
-- Tasks that are not here; none comes into use by that.
insert into main.tasks (
  hash, name, about, model, parameters, in_use, restriction, reader, closing, created_at, run_id, system, template,
  label_name
)
select
  theirs.hash,
  theirs.name,
  theirs.about,
  theirs.model,
  theirs.parameters,
  0,
  theirs.restriction,
  theirs.reader,
  theirs.closing,
  theirs.created_at,
  merged_runs.our_id,
  theirs.system,
  theirs.template,
  theirs.label_name
from other.tasks as theirs
join temp.merged_runs on merged_runs.their_id = theirs.run_id
order by theirs.rowid
on conflict (hash) do nothing

-- name: tasks_that_differ
-- Tasks that both stores have and that are read in another way there.
select theirs.name, theirs.hash
from other.tasks as theirs
join main.tasks as ours on ours.hash = theirs.hash
where ours.about is not theirs.about
  or ours.restriction is not theirs.restriction
  or ours.reader is not theirs.reader
  or ours.closing is not theirs.closing
order by theirs.name, theirs.hash

-- name: other_tasks_in_use
-- Names of which another task is in use there than here.
select ours.name, ours.hash, theirs.hash as their_hash
from other.tasks as theirs
join main.tasks as ours on ours.name = theirs.name and ours.in_use = 1
where theirs.in_use = 1
  and theirs.hash <> ours.hash
order by ours.name

-- name: tasks_to_use
-- Tasks of the other store that have an outcome which is ok here; that in use there first.
select theirs.hash
from other.tasks as theirs
where exists (select 1 from main.outcomes where outcomes.task_hash = theirs.hash and outcomes.status = 'ok')
order by theirs.in_use desc, theirs.created_at, theirs.hash

-- name: map_rollouts
-- Attempts of the other store that became rollouts and whose request is answered here.
insert into temp.merged_rollouts (request_hash, attempt, try)
select theirs.request_hash, theirs.attempt, max(theirs.try)
from other.generations as theirs
where exists (select 1 from main.answers where answers.request_hash = theirs.request_hash)
group by theirs.request_hash, theirs.attempt

-- name: map_known_attempts
-- Attempts whose answer stands here under another number; of equal answers each once.
insert into temp.merged_attempts (request_hash, attempt, our_attempt)
select rollout.request_hash, rollout.attempt, min(ours.attempt)
from temp.merged_rollouts as rollout
cross join other.answers as theirs
  on theirs.request_hash = rollout.request_hash
  and theirs.attempt = rollout.attempt
  and theirs.try = rollout.try
cross join main.answers as ours
  on ours.request_hash = rollout.request_hash
  and ours.host = theirs.host
  and ours.response = theirs.response
  and (
    select count(distinct earlier.attempt)
    from main.answers as earlier
    where earlier.request_hash = ours.request_hash
      and earlier.attempt < ours.attempt
      and earlier.host = ours.host
      and earlier.response = ours.response
  ) = (
    select count(*)
    from temp.merged_rollouts as before
    cross join other.answers as earlier
      on earlier.request_hash = before.request_hash
      and earlier.attempt = before.attempt
      and earlier.try = before.try
    where before.request_hash = rollout.request_hash
      and before.attempt < rollout.attempt
      and earlier.host = theirs.host
      and earlier.response = theirs.response
  )
group by rollout.request_hash, rollout.attempt

-- name: map_further_attempts
-- Attempts with other answers, where this store has a usable one: they become the next attempts that neither has.
insert into temp.merged_attempts (request_hash, attempt, our_attempt)
select
  rollout.request_hash,
  rollout.attempt,
  row_number() over (partition by rollout.request_hash order by rollout.attempt) + max(
    (select max(ours.attempt) from main.answers as ours where ours.request_hash = rollout.request_hash),
    (select max(theirs.attempt) from other.answers as theirs where theirs.request_hash = rollout.request_hash)
  )
from temp.merged_rollouts as rollout
where not exists (
    select 1
    from temp.merged_attempts as known
    where known.request_hash = rollout.request_hash and known.attempt = rollout.attempt
  )
  and exists (
    select 1
    from main.answers as ours
    where ours.request_hash = rollout.request_hash
      and ours.attempt = rollout.attempt
      and ours.fault is null
  )

-- name: map_tries
-- Which answer here each of theirs is: the same reply to the same attempt, the how-manieth of its kind.
insert into temp.merged_tries (request_hash, attempt, try, our_attempt, our_try, is_new)
select
  known.request_hash,
  known.attempt,
  known.try,
  known.our_attempt,
  known.our_try,
  known.our_try is null
from (
  select
    theirs.request_hash as request_hash,
    theirs.attempt as attempt,
    theirs.try as try,
    coalesce(moved.our_attempt, theirs.attempt) as our_attempt,
    (
      select ours.try
      from main.answers as ours
      where ours.request_hash = theirs.request_hash
        and ours.attempt = coalesce(moved.our_attempt, theirs.attempt)
        and ours.host = theirs.host
        and ours.response = theirs.response
        and (
          select count(*)
          from main.answers as earlier
          where earlier.request_hash = ours.request_hash
            and earlier.attempt = ours.attempt
            and earlier.try < ours.try
            and earlier.host = ours.host
            and earlier.response = ours.response
        ) = (
          select count(*)
          from other.answers as earlier
          where earlier.request_hash = theirs.request_hash
            and earlier.attempt = theirs.attempt
            and earlier.try < theirs.try
            and earlier.host = theirs.host
            and earlier.response = theirs.response
        )
    ) as our_try
  from other.answers as theirs
  left join temp.merged_attempts as moved
    on moved.request_hash = theirs.request_hash and moved.attempt = theirs.attempt
  where moved.our_attempt is not null
    or exists (
      select 1
      from main.answers as ours
      where ours.request_hash = theirs.request_hash and ours.attempt = theirs.attempt
    )
) as known

-- name: note_our_ok
-- Attempts with new answers that an outcome here is ok by.
insert into temp.merged_ok (request_hash, our_attempt, is_ours)
select distinct outcomes.request_hash, outcomes.attempt, 1
from main.outcomes
join temp.merged_tries as tries
  on tries.request_hash = outcomes.request_hash and tries.our_attempt = outcomes.attempt and tries.is_new
where outcomes.status = 'ok'

-- name: note_their_ok
-- Attempts with new answers that an outcome there is ok by.
insert into temp.merged_ok (request_hash, our_attempt, is_ours)
select distinct tries.request_hash, tries.our_attempt, 0
from other.outcomes as theirs
join temp.merged_tries as tries
  on tries.request_hash = theirs.request_hash and tries.attempt = theirs.attempt and tries.try = theirs.try
where theirs.status = 'ok'
  and tries.is_new

-- name: note_shifted
-- Attempts whose answers stay the newest: all with an answer here, but those that only an answer there is ok for.
insert into temp.shifted_attempts (request_hash, attempt, tries)
select tries.request_hash, tries.our_attempt, count(*)
from temp.merged_tries as tries
where tries.is_new
  and exists (
    select 1
    from main.answers as ours
    where ours.request_hash = tries.request_hash and ours.attempt = tries.our_attempt
  )
  and not (
    exists (
      select 1
      from temp.merged_ok as ok
      where ok.request_hash = tries.request_hash and ok.our_attempt = tries.our_attempt and ok.is_ours = 0
    )
    and not exists (
      select 1
      from temp.merged_ok as ok
      where ok.request_hash = tries.request_hash and ok.our_attempt = tries.our_attempt and ok.is_ours = 1
    )
  )
group by tries.request_hash, tries.our_attempt

-- name: number_new_tries
-- The numbers of the new answers: below ours where those were shifted, else above.
update temp.merged_tries
set our_try = numbered.our_try
from (
  select
    tries.request_hash as request_hash,
    tries.attempt as attempt,
    tries.try as try,
    row_number() over (
      partition by tries.request_hash, tries.our_attempt
      order by tries.attempt, tries.try
    ) - 1 + iif(
      shifted.tries is not null,
      0,
      coalesce(
        (
          select max(ours.try) + 1
          from main.answers as ours
          where ours.request_hash = tries.request_hash and ours.attempt = tries.our_attempt
        ),
        0
      )
    ) as our_try
  from temp.merged_tries as tries
  left join temp.shifted_attempts as shifted
    on shifted.request_hash = tries.request_hash and shifted.attempt = tries.our_attempt
  where tries.is_new
) as numbered
where merged_tries.request_hash = numbered.request_hash
  and merged_tries.attempt = numbered.attempt
  and merged_tries.try = numbered.try

-- name: shift_known_tries
-- Answers that both have move with ours.
update temp.merged_tries
set our_try = our_try + shifted.tries
from temp.shifted_attempts as shifted
where shifted.request_hash = merged_tries.request_hash
  and shifted.attempt = merged_tries.our_attempt
  and not merged_tries.is_new

-- name: lift_answers
-- Moves the answers of shifted attempts to numbers that nobody has, so that none meets another. :lift
update main.answers
set try = answers.try + shifted.tries + :lift
from temp.shifted_attempts as shifted
where answers.request_hash = shifted.request_hash and answers.attempt = shifted.attempt

-- name: lower_answers
-- Gives them their numbers. :lift
update main.answers
set try = answers.try - :lift
from temp.shifted_attempts as shifted
where answers.request_hash = shifted.request_hash and answers.attempt = shifted.attempt

-- name: lift_generations
-- As lift_answers, for the rollouts that they became. :lift
update main.generations
set try = generations.try + shifted.tries + :lift
from temp.shifted_attempts as shifted
where generations.request_hash = shifted.request_hash and generations.attempt = shifted.attempt

-- name: lower_generations
-- As lower_answers. :lift
update main.generations
set try = generations.try - :lift
from temp.shifted_attempts as shifted
where generations.request_hash = shifted.request_hash and generations.attempt = shifted.attempt

-- name: shift_outcomes
-- As lift_answers, for the outcomes that they settled.
update main.outcomes
set try = outcomes.try + shifted.tries
from temp.shifted_attempts as shifted
where outcomes.request_hash = shifted.request_hash
  and outcomes.attempt = shifted.attempt
  and outcomes.try is not null

-- name: shift_batch_results
-- As lift_answers, for the results of batch files.
update main.batch_results
set try = batch_results.try + shifted.tries
from main.handed_out
join temp.shifted_attempts as shifted
  on shifted.request_hash = handed_out.request_hash and shifted.attempt = handed_out.attempt
where handed_out.id = batch_results.handed_out_id
  and batch_results.try is not null

-- name: shift_reservations
-- As lift_answers, for what counts in full.
update main.reservations
set try = reservations.try + shifted.tries
from temp.shifted_attempts as shifted
where reservations.request_hash = shifted.request_hash
  and reservations.attempt = shifted.attempt
  and reservations.try is not null

-- name: add_their_answers
-- Answers that are not here.
insert into main.answers (
  request_hash, attempt, try, model, host, finish_reason, prompt_tokens, cached_tokens, completion_tokens,
  reasoning_tokens, cost_usd, latency_ms, run_id, answered_at, fault, refusal, content, reasoning, sent, request,
  response, served_model
)
select
  theirs.request_hash,
  coalesce(tries.our_attempt, theirs.attempt),
  coalesce(tries.our_try, theirs.try),
  theirs.model,
  theirs.host,
  theirs.finish_reason,
  theirs.prompt_tokens,
  theirs.cached_tokens,
  theirs.completion_tokens,
  theirs.reasoning_tokens,
  theirs.cost_usd,
  theirs.latency_ms,
  merged_runs.our_id,
  theirs.answered_at,
  theirs.fault,
  theirs.refusal,
  theirs.content,
  theirs.reasoning,
  theirs.sent,
  theirs.request,
  theirs.response,
  theirs.served_model
from other.answers as theirs
join temp.merged_runs on merged_runs.their_id = theirs.run_id
left join temp.merged_tries as tries
  on tries.request_hash = theirs.request_hash and tries.attempt = theirs.attempt and tries.try = theirs.try
where coalesce(tries.is_new, 1)
order by theirs.rowid

-- name: their_sources
-- The sources of the other store.
select sources.id, sources.name, sources.kind, sources.model, sources.environment
from other.sources
order by sources.id

-- name: same_named_sources
-- Sources of this store that may be the same: by its name, by its name with this label, then with others.
-- :name   :labelled NAME@LABEL
select sources.id, sources.name, sources.kind, sources.model, sources.environment
from main.sources
where sources.name = :name
  or substr(sources.name, 1, length(:name) + 1) = :name || '@'
order by sources.name <> :name, sources.name <> :labelled, sources.id

-- name: is_same_source
-- 1 if two sources hold the same rows as far as both go, else 0. :theirs, :ours ids
select
  not exists (
    select 1
    from other.source_samples as theirs
    join main.source_samples as ours on ours.source_id = :ours and ours.position = theirs.position
    where theirs.source_id = :theirs and ours.sample_hash <> theirs.sample_hash
  )
  and not exists (
    select 1
    from other.source_samples as theirs
    join main.rejected_rows as ours on ours.source_id = :ours and ours.position = theirs.position
    where theirs.source_id = :theirs
  )
  and not exists (
    select 1
    from other.rejected_rows as theirs
    join main.source_samples as ours on ours.source_id = :ours and ours.position = theirs.position
    where theirs.source_id = :theirs
  )

-- name: add_their_source
-- Adds a source under a name. :theirs its id there   :name
insert into main.sources (
  name, uri, kind, revision, split, features, model, environment, run, ingested_at, is_mixed, field_map
)
select
  :name,
  theirs.uri,
  theirs.kind,
  theirs.revision,
  theirs.split,
  theirs.features,
  theirs.model,
  theirs.environment,
  theirs.run,
  theirs.ingested_at,
  theirs.is_mixed,
  theirs.field_map
from other.sources as theirs
where theirs.id = :theirs

-- name: map_source
-- Which source here one of theirs is. :theirs, :ours ids   :is_appended 0 or 1
insert into temp.merged_sources (their_id, our_id, is_appended)
values (:theirs, :ours, :is_appended)

-- name: map_generated_places
-- Places of rollouts in a source that grows, whose answer has a place here. :theirs, :ours ids
insert into temp.merged_places (their_source, their_position, our_position)
select :theirs, theirs.position, ours.position
from other.generations as theirs
left join temp.merged_tries as tries
  on tries.request_hash = theirs.request_hash and tries.attempt = theirs.attempt and tries.try = theirs.try
join main.generations as ours
  on ours.task_hash = theirs.task_hash
  and ours.problem_hash = theirs.problem_hash
  and ours.attempt = coalesce(tries.our_attempt, theirs.attempt)
  and ours.request_hash = theirs.request_hash
  and ours.try = coalesce(tries.our_try, theirs.try)
where theirs.source_id = :theirs
  and ours.source_id = :ours

-- name: map_equal_places
-- Places of other rows in a source that grows: the how-manieth place of a sample there is the same here.
-- :theirs, :ours ids
with theirs as (
  select
    rows.position as position,
    rows.item as item,
    row_number() over (partition by rows.item order by rows.position) as occurrence
  from (
    select source_samples.position as position, source_samples.sample_hash as item
    from other.source_samples
    where source_samples.source_id = :theirs
      and not exists (
        select 1
        from other.generations
        where generations.source_id = :theirs and generations.position = source_samples.position
      )
    union all
    select rejected_rows.position, 'rejected ' || rejected_rows.location || ' ' || rejected_rows.reason
    from other.rejected_rows
    where rejected_rows.source_id = :theirs
  ) as rows
),
ours as (
  select
    rows.position as position,
    rows.item as item,
    row_number() over (partition by rows.item order by rows.position) as occurrence
  from (
    select source_samples.position as position, source_samples.sample_hash as item
    from main.source_samples
    where source_samples.source_id = :ours
      and not exists (
        select 1
        from main.generations
        where generations.source_id = :ours and generations.position = source_samples.position
      )
    union all
    select rejected_rows.position, 'rejected ' || rejected_rows.location || ' ' || rejected_rows.reason
    from main.rejected_rows
    where rejected_rows.source_id = :ours
  ) as rows
)
insert into temp.merged_places (their_source, their_position, our_position)
select :theirs, theirs.position, ours.position
from theirs
join ours on ours.item = theirs.item and ours.occurrence = theirs.occurrence

-- name: map_new_places
-- All other places of a source that grows, behind the end of ours. :theirs, :ours ids
insert into temp.merged_places (their_source, their_position, our_position)
select
  :theirs,
  rows.position,
  row_number() over (order by rows.position) + max(
    coalesce((select max(position) from main.source_samples where source_samples.source_id = :ours), -1),
    coalesce((select max(position) from main.rejected_rows where rejected_rows.source_id = :ours), -1)
  )
from (
  select source_samples.position as position
  from other.source_samples
  where source_samples.source_id = :theirs
  union all
  select rejected_rows.position
  from other.rejected_rows
  where rejected_rows.source_id = :theirs
) as rows
where not exists (
    select 1
    from temp.merged_places as known
    where known.their_source = :theirs and known.their_position = rows.position
  )

-- name: add_their_memberships
-- The places of a source that this store has not. :theirs, :ours ids   :is_appended as mapped
insert into main.source_samples (source_id, position, sample_hash)
select :ours, coalesce(places.our_position, theirs.position), theirs.sample_hash
from other.source_samples as theirs
left join temp.merged_places as places
  on :is_appended and places.their_source = theirs.source_id and places.their_position = theirs.position
where theirs.source_id = :theirs
on conflict (source_id, position) do nothing

-- name: add_their_rejected_rows
-- The rejected rows of a source that this store has not. :theirs, :ours ids   :is_appended as mapped
insert into main.rejected_rows (source_id, position, location, reason, run_id, content_hash)
select
  :ours,
  coalesce(places.our_position, theirs.position),
  theirs.location,
  theirs.reason,
  merged_runs.our_id,
  theirs.content_hash
from other.rejected_rows as theirs
join temp.merged_runs on merged_runs.their_id = theirs.run_id
left join temp.merged_places as places
  on :is_appended and places.their_source = theirs.source_id and places.their_position = theirs.position
where theirs.source_id = :theirs
on conflict (source_id, position) do nothing

-- name: follow_longer_source
-- What a source says of itself, as the longer of both does. :theirs, :ours ids
update main.sources
set
  uri = theirs.uri,
  revision = theirs.revision,
  split = theirs.split,
  features = theirs.features,
  field_map = theirs.field_map,
  model = coalesce(theirs.model, sources.model),
  environment = coalesce(theirs.environment, sources.environment),
  run = coalesce(theirs.run, sources.run),
  ingested_at = max(theirs.ingested_at, sources.ingested_at),
  is_mixed = max(theirs.is_mixed, sources.is_mixed)
from other.sources as theirs
where theirs.id = :theirs and sources.id = :ours

-- name: count_new_scores
-- How many scores are not here.
select count(*)
from other.scores as theirs
where not exists (
    select 1
    from main.scores as ours
    where ours.sample_hash = theirs.sample_hash
      and ours.reward = theirs.reward
      and ours.scored_at = theirs.scored_at
  )

-- name: merge_scores
-- All scores of both in the order of their time; of one time, ours first.
insert into temp.merged_scores (sample_hash, reward, scored_at, run_id)
select scored.sample_hash, scored.reward, scored.scored_at, scored.run_id
from (
  select
    0 as is_theirs,
    ours.id as id,
    ours.sample_hash as sample_hash,
    ours.reward as reward,
    ours.scored_at as scored_at,
    ours.run_id as run_id
  from main.scores as ours
  union all
  select 1, theirs.id, theirs.sample_hash, theirs.reward, theirs.scored_at, merged_runs.our_id
  from other.scores as theirs
  join temp.merged_runs on merged_runs.their_id = theirs.run_id
  where not exists (
      select 1
      from main.scores as ours
      where ours.sample_hash = theirs.sample_hash
        and ours.reward = theirs.reward
        and ours.scored_at = theirs.scored_at
    )
) as scored
order by scored.scored_at, scored.is_theirs, scored.id

-- name: clear_scores
-- Makes way for the scores in their order.
delete from main.scores

-- name: number_scores
-- Stores the scores so that a higher id is newer.
insert into main.scores (id, sample_hash, reward, scored_at, run_id)
select scores.id, scores.sample_hash, scores.reward, scores.scored_at, scores.run_id
from temp.merged_scores as scores
order by scores.id

-- name: labels_that_differ
-- How many labels are others there.
select count(*)
from temp.their_outcomes as theirs
join main.outcomes as ours
  on ours.task_hash = theirs.task_hash
  and ours.sample_hash = theirs.sample_hash
  and ours.attempt = theirs.attempt
where ours.status = 'ok'
  and theirs.status = 'ok'
  and ours.value <> theirs.value

-- name: improve_outcomes
-- Outcomes that are ok there and not here.
update main.outcomes
set
  status = theirs.status,
  try = theirs.try,
  request_hash = theirs.request_hash,
  parser_version = theirs.parser_version,
  decided_at = theirs.decided_at,
  reason = theirs.reason,
  value = theirs.value,
  failures = theirs.failures
from temp.their_outcomes as theirs
where outcomes.task_hash = theirs.task_hash
  and outcomes.sample_hash = theirs.sample_hash
  and outcomes.attempt = theirs.attempt
  and outcomes.status <> 'ok'
  and theirs.status = 'ok'

-- name: add_their_outcomes
-- Outcomes that are not here.
insert into main.outcomes (
  sample_hash, task_hash, attempt, status, try, request_hash, parser_version, decided_at, reason, value, failures
)
select
  theirs.sample_hash,
  theirs.task_hash,
  theirs.attempt,
  theirs.status,
  theirs.try,
  theirs.request_hash,
  theirs.parser_version,
  theirs.decided_at,
  theirs.reason,
  theirs.value,
  theirs.failures
from temp.their_outcomes as theirs
where true
on conflict (task_hash, sample_hash, attempt) do nothing

-- name: map_our_tokenizers
-- The names by which this store has tokenizers.
insert into temp.merged_tokenizers (template_hash, tokenizer)
select length_templates.template_hash, min(length_templates.tokenizer)
from main.length_templates
group by length_templates.template_hash

-- name: map_their_tokenizers
-- The names of tokenizers that only the other store has.
insert into temp.merged_tokenizers (template_hash, tokenizer)
select lengths.template_hash, min(lengths.tokenizer)
from other.lengths
group by lengths.template_hash
on conflict (template_hash) do nothing

-- name: add_their_lengths
-- Lengths that are not here, under the name that their tokenizer has here.
insert into main.lengths (
  sample_hash, tokenizer, template_hash, prompt_tokens, completion_tokens, total_tokens, unreached, refusal
)
select
  theirs.sample_hash,
  names.tokenizer,
  theirs.template_hash,
  theirs.prompt_tokens,
  theirs.completion_tokens,
  theirs.total_tokens,
  theirs.unreached,
  theirs.refusal
from other.lengths as theirs
join temp.merged_tokenizers as names on names.template_hash = theirs.template_hash
where not exists (select 1 from temp.read_otherwise where read_otherwise.sample_hash = theirs.sample_hash)
on conflict (tokenizer, template_hash, sample_hash) do nothing

-- name: lengths_that_differ
-- Tokenizers with samples that are counted otherwise there, with their number and one of them.
select names.tokenizer, count(*) as samples, min(theirs.sample_hash) as example
from other.lengths as theirs
join temp.merged_tokenizers as names on names.template_hash = theirs.template_hash
join main.lengths as ours
  on ours.tokenizer = names.tokenizer
  and ours.template_hash = theirs.template_hash
  and ours.sample_hash = theirs.sample_hash
where (
    ours.prompt_tokens is not theirs.prompt_tokens
    or ours.completion_tokens is not theirs.completion_tokens
    or ours.total_tokens is not theirs.total_tokens
    or ours.unreached is not theirs.unreached
    or ours.refusal is not theirs.refusal
  )
  and not exists (select 1 from temp.read_otherwise where read_otherwise.sample_hash = theirs.sample_hash)
group by names.tokenizer
order by names.tokenizer

-- name: add_their_batches
-- Batch files that are not here.
insert into main.batches (
  run_id, task_hash, model, file, file_hash, size_bytes, requests, written_at, base_url, api_key_var, headers,
  input_file_id, create_began_at, server_id, server_status, checked_at, output_file_id, error_file_id, fetched_at
)
select
  merged_runs.our_id,
  theirs.task_hash,
  theirs.model,
  theirs.file,
  theirs.file_hash,
  theirs.size_bytes,
  theirs.requests,
  theirs.written_at,
  theirs.base_url,
  theirs.api_key_var,
  theirs.headers,
  theirs.input_file_id,
  theirs.create_began_at,
  theirs.server_id,
  theirs.server_status,
  theirs.checked_at,
  theirs.output_file_id,
  theirs.error_file_id,
  theirs.fetched_at
from other.batches as theirs
join temp.merged_runs on merged_runs.their_id = theirs.run_id
where not exists (
    select 1
    from main.batches as ours
    where ours.file_hash = theirs.file_hash and ours.run_id = merged_runs.our_id and ours.file = theirs.file
  )
order by theirs.id

-- name: map_batches
-- Which batch file here each of theirs is.
insert into temp.merged_batches (their_id, our_id)
select theirs.id, min(ours.id)
from other.batches as theirs
join temp.merged_runs on merged_runs.their_id = theirs.run_id
join main.batches as ours
  on ours.file_hash = theirs.file_hash and ours.run_id = merged_runs.our_id and ours.file = theirs.file
group by theirs.id

-- name: follow_batches
-- What became of batch files that came in earlier: submitted, checked, fetched.
update main.batches
set
  written_at = coalesce(theirs.written_at, batches.written_at),
  base_url = coalesce(theirs.base_url, batches.base_url),
  api_key_var = coalesce(theirs.api_key_var, batches.api_key_var),
  headers = coalesce(theirs.headers, batches.headers),
  input_file_id = coalesce(theirs.input_file_id, batches.input_file_id),
  create_began_at = coalesce(theirs.create_began_at, batches.create_began_at),
  server_id = coalesce(theirs.server_id, batches.server_id),
  server_status = coalesce(theirs.server_status, batches.server_status),
  checked_at = coalesce(theirs.checked_at, batches.checked_at),
  output_file_id = coalesce(theirs.output_file_id, batches.output_file_id),
  error_file_id = coalesce(theirs.error_file_id, batches.error_file_id),
  fetched_at = coalesce(theirs.fetched_at, batches.fetched_at)
from temp.merged_batches
join other.batches as theirs on theirs.id = merged_batches.their_id
where batches.id = merged_batches.our_id
  and coalesce(theirs.fetched_at, theirs.checked_at, theirs.create_began_at, theirs.written_at, '')
    > coalesce(batches.fetched_at, batches.checked_at, batches.create_began_at, batches.written_at, '')

-- name: add_their_handed_out
-- The lines of batch files that are not here. What is out here already is released there. :at the time
insert into main.handed_out (batch_id, request_hash, attempt, custom_id, ending, ended_at, request)
select
  merged_batches.our_id,
  theirs.request_hash,
  coalesce(moved.our_attempt, theirs.attempt),
  theirs.custom_id,
  iif(out.id is null, theirs.ending, 'released'),
  iif(out.id is null, theirs.ended_at, :at),
  theirs.request
from other.handed_out as theirs
join temp.merged_batches on merged_batches.their_id = theirs.batch_id
left join temp.merged_attempts as moved
  on moved.request_hash = theirs.request_hash and moved.attempt = theirs.attempt
left join main.handed_out as out
  on theirs.ending is null
  and out.request_hash = theirs.request_hash
  and out.attempt = coalesce(moved.our_attempt, theirs.attempt)
  and out.ending is null
where not exists (
    select 1
    from main.handed_out as ours
    where ours.batch_id = merged_batches.our_id and ours.custom_id = theirs.custom_id
  )
order by theirs.id

-- name: map_handed_out
-- Which line of a batch file here each of theirs is.
insert into temp.merged_handed_out (their_id, our_id)
select theirs.id, min(ours.id)
from other.handed_out as theirs
join temp.merged_batches on merged_batches.their_id = theirs.batch_id
join main.handed_out as ours
  on ours.batch_id = merged_batches.our_id and ours.custom_id = theirs.custom_id
group by theirs.id

-- name: end_their_handed_out
-- The endings of lines that came in while they were out.
update main.handed_out
set
  attempt = coalesce(moved.our_attempt, theirs.attempt),
  ending = theirs.ending,
  ended_at = theirs.ended_at,
  request = theirs.request
from temp.merged_handed_out
join other.handed_out as theirs on theirs.id = merged_handed_out.their_id
left join temp.merged_attempts as moved
  on moved.request_hash = theirs.request_hash and moved.attempt = theirs.attempt
where handed_out.id = merged_handed_out.our_id
  and theirs.ending is not null
  and (handed_out.ending is null or (handed_out.ending = 'released' and theirs.ending <> 'released'))

-- name: files_not_to_send
-- Batch files of the other store with requests that are out here too, and how many.
select theirs.file, count(*) as requests
from temp.merged_handed_out
join other.handed_out on handed_out.id = merged_handed_out.their_id and handed_out.ending is null
join other.batches as theirs on theirs.id = handed_out.batch_id
join main.handed_out as ours on ours.id = merged_handed_out.our_id and ours.ending = 'released'
group by theirs.file
order by theirs.file

-- name: add_their_handed_out_samples
-- Which samples the lines of batch files settle.
insert into main.handed_out_samples (sample_hash, task_hash, handed_out_id)
select theirs.sample_hash, theirs.task_hash, merged_handed_out.our_id
from other.handed_out_samples as theirs
join temp.merged_handed_out on merged_handed_out.their_id = theirs.handed_out_id
where not exists (select 1 from temp.read_otherwise where read_otherwise.sample_hash = theirs.sample_hash)
on conflict (sample_hash, task_hash, handed_out_id) do nothing

-- name: add_their_batch_results
-- Results of batch files that were not read here.
insert into main.batch_results (result_hash, handed_out_id, result_id, try, reason, run_id, read_at)
select
  theirs.result_hash,
  merged_handed_out.our_id,
  theirs.result_id,
  coalesce(tries.our_try, theirs.try),
  theirs.reason,
  merged_runs.our_id,
  theirs.read_at
from other.batch_results as theirs
join temp.merged_handed_out on merged_handed_out.their_id = theirs.handed_out_id
join temp.merged_runs on merged_runs.their_id = theirs.run_id
join other.handed_out on handed_out.id = theirs.handed_out_id
left join temp.merged_tries as tries
  on tries.request_hash = handed_out.request_hash
  and tries.attempt = handed_out.attempt
  and tries.try = theirs.try
where true
on conflict (result_hash) do nothing

-- name: add_their_generations
-- Which places hold answers that became rollouts. An answer, and a place, is there once: both keys are skipped.
insert into main.generations (source_id, position, task_hash, problem_hash, attempt, request_hash, try)
select
  merged_sources.our_id,
  coalesce(places.our_position, theirs.position),
  theirs.task_hash,
  theirs.problem_hash,
  coalesce(tries.our_attempt, theirs.attempt),
  theirs.request_hash,
  coalesce(tries.our_try, theirs.try)
from other.generations as theirs
join temp.merged_sources on merged_sources.their_id = theirs.source_id
left join temp.merged_places as places
  on merged_sources.is_appended
  and places.their_source = theirs.source_id
  and places.their_position = theirs.position
left join temp.merged_tries as tries
  on tries.request_hash = theirs.request_hash and tries.attempt = theirs.attempt and tries.try = theirs.try
where true
on conflict do nothing

-- name: add_their_prices
-- The prices that runs reckoned with.
insert into main.prices (
  run_id, model, input_usd, cached_input_usd, output_usd, below_prompt_tokens, source
)
select
  merged_runs.our_id,
  theirs.model,
  theirs.input_usd,
  theirs.cached_input_usd,
  theirs.output_usd,
  theirs.below_prompt_tokens,
  theirs.source
from other.prices as theirs
join temp.merged_runs on merged_runs.their_id = theirs.run_id
where true
on conflict (run_id, model) do nothing

-- name: drop_old_reservations
-- Reservations of runs of other stores that were released there since.
delete from main.reservations
where exists (
    select 1
    from main.runs
    join temp.merged_runs on merged_runs.our_id = runs.id
    join other.runs as their_run on their_run.id = merged_runs.their_id
    where runs.id = reservations.run_id
      and runs.origin is not null
      and their_run.ended_at is runs.ended_at
  )
  and not exists (
    select 1
    from temp.their_reservations as theirs
    where theirs.run_id = reservations.run_id
      and theirs.request_hash = reservations.request_hash
      and theirs.attempt = reservations.attempt
      and theirs.try is reservations.try
      and theirs.reserved_at = reservations.reserved_at
      and theirs.tokens = reservations.tokens
      and theirs.cost_usd is reservations.cost_usd
  )

-- name: add_their_reservations
-- Reservations of runs of other stores that are not here.
insert into main.reservations (run_id, request_hash, attempt, try, model, tokens, cost_usd, reserved_at)
select
  theirs.run_id,
  theirs.request_hash,
  theirs.attempt,
  theirs.try,
  theirs.model,
  theirs.tokens,
  theirs.cost_usd,
  theirs.reserved_at
from temp.their_reservations as theirs
join main.runs on runs.id = theirs.run_id and runs.origin is not null and runs.ended_at is theirs.run_ended_at
where not exists (
    select 1
    from main.reservations as ours
    where ours.request_hash = theirs.request_hash
      and ours.attempt = theirs.attempt
      and ours.try is theirs.try
      and ours.run_id = theirs.run_id
      and ours.reserved_at = theirs.reserved_at
      and ours.tokens = theirs.tokens
      and ours.cost_usd is theirs.cost_usd
  )
order by theirs.id

-- name: settings_that_differ
-- Settings that are others there.
select ours.key, ours.value, theirs.value as their_value
from other.settings as theirs
join main.settings as ours on ours.key = theirs.key
where ours.value is not theirs.value
order by ours.key

-- name: budgets_used_up
-- Tasks whose last run of this store had a budget in US dollars that is used up now.
select budgets.task, budgets.max_cost_usd, spent.cost_usd
from (
  select runs.task as task, runs.options ->> '$.max_cost_usd' as max_cost_usd, max(runs.id) as run_id
  from main.runs
  where runs.origin is null and runs.task is not null
  group by runs.task
) as budgets
join (
  select
    costs.task as task,
    sum(coalesce(costs.cost_usd, 0) + coalesce(costs.computed_usd, 0) + coalesce(costs.reserved_usd, 0)) as cost_usd
  from main.costs
  group by costs.task
) as spent on spent.task = budgets.task
where spent.cost_usd >= budgets.max_cost_usd
order by budgets.task
