-- name: asked_requests
-- Every answer's identity and the request as asked.
select
  answers.request_hash,
  answers.attempt,
  answers.try,
  answers.request
from answers

-- name: batch_places
-- Where batch files were written, and whether one is recorded and has not got its name yet.
select
  batches.file,
  batches.written_at is null as is_beside
from batches
order by batches.id

-- name: broken_references
-- Rows that name an answer, a position or a row that is not there, or that count wrongly: what is wrong, in words.
-- Foreign keys are not among them: SQLite checks those.
select 'batch result about request ' || handed_out.request_hash || ': its answer, try ' || batch_results.try
  || ', is not there' as problem
from batch_results
join handed_out on handed_out.id = batch_results.handed_out_id
where batch_results.try is not null
  and not exists (
    select 1
    from answers
    where answers.request_hash = handed_out.request_hash
      and answers.attempt = handed_out.attempt
      and answers.try = batch_results.try
  )
union all
select 'request ' || handed_out.request_hash || ' of batch ' || handed_out.batch_id
  || ': neither its body nor an answer is there'
from handed_out
where handed_out.request is null
  and not exists (
    select 1
    from answers
    where answers.request_hash = handed_out.request_hash and answers.attempt = handed_out.attempt
  )
union all
select 'batch ' || batches.id || ': it has ' || count(handed_out.id) || ' requests, not the ' || batches.requests
  || ' of its file'
from batches
left join handed_out on handed_out.batch_id = batches.id
group by batches.id, batches.requests
having count(handed_out.id) <> batches.requests
union all
select 'reservation ' || reservations.id || ': its answer, try ' || reservations.try || ' of '
  || reservations.request_hash || ', is not there'
from reservations
where reservations.try is not null
  and not exists (
    select 1
    from answers
    where answers.request_hash = reservations.request_hash
      and answers.attempt = reservations.attempt
      and answers.try = reservations.try
  )
union all
select 'generated rollout ' || generations.position || ' of source ' || generations.source_id
  || ': its answer, try ' || generations.try || ' of ' || generations.request_hash || ', is not there'
from generations
where not exists (
  select 1
  from answers
  where answers.request_hash = generations.request_hash
    and answers.attempt = generations.attempt
    and answers.try = generations.try
)
union all
select 'generated rollout ' || generations.position || ' of source ' || generations.source_id
  || ': no sample is at that place'
from generations
where not exists (
  select 1
  from source_samples
  where source_samples.source_id = generations.source_id
    and source_samples.position = generations.position
)
union all
select 'the outcome of sample ' || outcomes.sample_hash || ' by task ' || outcomes.task_hash || ', attempt '
  || outcomes.attempt || ': it is ' || outcomes.status || ' and counts ' || outcomes.failures || ' failures'
from outcomes
where outcomes.failures > 0 and outcomes.status <> 'failed'
union all
select 'rollout ' || samples.hash || ': no facts are kept of it'
from samples
where samples.kind = 'rollout'
  and not exists (select 1 from rollout_facts where rollout_facts.sample_hash = samples.hash)

-- name: handed_out_requests
-- Every request in a batch file whose body is kept: its identity and the body as asked.
select handed_out.request_hash, handed_out.attempt, handed_out.batch_id, handed_out.request
from handed_out
where handed_out.request is not null

-- name: maps_of_sources
-- Every source whose rows are read by a map, and the map.
select sources.name, sources.field_map
from sources
where sources.field_map is not null
order by sources.id

-- name: outcomes_without_answer
-- Outcomes that name an answer that is not there, or that are ok without one. One that failed may name its
-- request and no try: nothing usable came.
select
  outcomes.sample_hash,
  outcomes.task_hash,
  outcomes.attempt,
  outcomes.request_hash
from outcomes
where outcomes.try is not null
  and not exists (
    select 1
    from answers
    where answers.request_hash = outcomes.request_hash
      and answers.attempt = outcomes.attempt
      and answers.try = outcomes.try
  )
  or (outcomes.status = 'ok' and (outcomes.request_hash is null or outcomes.try is null))
order by outcomes.task_hash, outcomes.sample_hash, outcomes.attempt

-- name: task_identities
-- Every task with what its hash is made of, and how its answers are read.
select
  tasks.hash,
  tasks.name,
  tasks.model,
  tasks.parameters,
  tasks.system,
  tasks.template,
  tasks.reader
from tasks
order by tasks.name, tasks.hash

-- name: tasks_not_in_use
-- Names of tasks that have outcomes which are ok while none of the name is in use, or several are.
select
  tasks.name,
  sum(tasks.in_use) as in_use
from tasks
group by tasks.name
having sum(tasks.in_use) > 1
  or (
    sum(tasks.in_use) = 0
    and sum(exists (select 1 from outcomes where outcomes.task_hash = tasks.hash and outcomes.status = 'ok')) > 0
  )
order by tasks.name

-- name: whole_original_lines
-- Every line that a sample's row is not, and its identity.
select original_lines.hash, original_lines.line
from original_lines

-- name: whole_problems
-- Every problem of a benchmark with its code.
select problems.benchmark_id, problems.problem, problems.code_hash, problems.code
from problems
order by problems.benchmark_id, problems.position

-- name: whole_rollout_facts
-- Every rollout with the facts that were read from its row. Those that a migration read itself (has_labels is null)
-- are left out: it reads less, and it in other words.
select
  rollout_facts.sample_hash,
  rollout_facts.is_empty,
  rollout_facts.example_id,
  rollout_facts.model,
  rollout_facts.environment,
  rollout_facts.finish_reason,
  rollout_facts.stop_condition,
  rollout_facts.is_truncated,
  rollout_facts.error,
  rollout_facts.prompt_tokens,
  rollout_facts.cached_tokens,
  rollout_facts.completion_tokens,
  rollout_facts.reasoning_tokens,
  rollout_facts.generation_ms,
  rollout_facts.scoring_ms,
  rollout_facts.total_ms,
  rollout_facts.rewards,
  rollout_facts.metrics,
  rollout_facts.error_text,
  rollout_facts.has_labels,
  other_reasoning.reasoning as other_reasoning,
  rollout_facts.other_completion,
  rollout_facts.earlier_errors,
  rollout_facts.unscored,
  rollout_facts.reading,
  rollout_facts.completion_path,
  samples.row,
  field_maps.map as field_map
from rollout_facts
join samples on samples.hash = rollout_facts.sample_hash
left join mapped_samples on mapped_samples.sample_hash = rollout_facts.sample_hash
left join field_maps on field_maps.id = mapped_samples.field_map_id
left join other_reasoning on other_reasoning.sample_hash = rollout_facts.sample_hash
where rollout_facts.has_labels is not null

-- name: whole_samples
-- Every sample with all that was derived from its row.
select
  samples.hash,
  samples.kind,
  samples.module_name,
  samples.code_hash,
  samples.code_point,
  samples.name_point,
  samples.reward,
  samples.row,
  field_maps.map as field_map
from samples
left join mapped_samples on mapped_samples.sample_hash = samples.hash
left join field_maps on field_maps.id = mapped_samples.field_map_id
