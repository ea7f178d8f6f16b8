-- name: asking_runs
-- Every run of this store that asked a task, the oldest first.
select
  runs.id,
  runs.command,
  runs.task,
  runs.task_hash,
  runs.options,
  runs.command_line,
  runs.started_at,
  runs.status,
  runs.pid
from runs
where runs.task is not null
  and runs.task_hash is not null
  and runs.origin is null
order by runs.id

-- name: best_per_module
-- The best rollout of each module, highest reward first.
select
  unique_best.module_name,
  unique_best.reward,
  unique_best.difficulty
from unique_best

-- name: costs_by_task
-- What was paid for, by task and model. cost_usd is null if no answer reports its cost, computed_usd if tokens and
-- price make nothing beyond that; reserved_usd is what requests without usage may have cost at most.
select
  costs.task,
  costs.model,
  sum(costs.answers) as answers,
  sum(costs.cost_usd) as cost_usd,
  sum(costs.answers_without_cost) as answers_without_cost,
  sum(costs.prompt_tokens) as prompt_tokens,
  sum(costs.completion_tokens) as completion_tokens,
  sum(costs.computed_usd) as computed_usd,
  sum(costs.uncounted) as uncounted,
  sum(costs.reserved) as reserved,
  sum(costs.reserved_usd) as reserved_usd
from costs
group by costs.task, costs.model
order by costs.task, costs.model

-- name: difficulties
-- How many samples have each difficulty, among all that were rated `ok` and among `filtered`.
select
  ratings.difficulty,
  count(*) as samples,
  coalesce(sum(
    ratings.reward > (select settings.value from settings where settings.key = 'min_reward')
  ), 0) as good
from ratings
where ratings.status = 'ok'
group by ratings.difficulty
order by ratings.difficulty

-- name: failures_by_reason
-- Outcomes of the tasks in use that are not ok, the most frequent reasons first; if none of a name is in use yet,
-- those of the newest.
select
  failures.task,
  failures.status,
  failures.reason,
  count(*) as samples
from failures
join tasks on tasks.hash = failures.task_hash
where tasks.hash = (
    select newest.hash
    from tasks as newest
    where newest.name = tasks.name
    order by newest.in_use desc, newest.created_at desc, newest.hash desc
    limit 1
  )
group by failures.task, failures.status, failures.reason
order by samples desc, failures.task, failures.status, failures.reason

-- name: first_run
-- The command of the first run of a store.
select runs.command
from runs
order by runs.id
limit 1

-- name: handed_out_by_task
-- What is pending in batch files, by task: different samples, and files.
select
  waiting_for_batch.task,
  count(distinct waiting_for_batch.sample_hash) as samples,
  count(distinct waiting_for_batch.batch_id) as files
from waiting_for_batch
group by waiting_for_batch.task
order by waiting_for_batch.task

-- name: measured_lengths
-- 1 if any length was measured, else 0.
select exists (select 1 from lengths) as measured

-- name: models_by_source
-- Whose rollouts each source holds, in the order in which the sources were first read; nothing where no source is a
-- run, so that a store without runs is not counted through.
select
  model_counts.source,
  model_counts.model,
  model_counts.environment,
  model_counts.rows,
  model_counts.rollouts,
  model_counts.empty,
  model_counts.errors,
  model_counts.rewarded
from model_counts
where exists (select 1 from sources where sources.kind = 'run' or sources.is_mixed = 1)
  and (model_counts.model is not null or model_counts.environment is not null)
order by model_counts.source_id, model_counts.model, model_counts.environment

-- name: outcomes_by_status
-- Every task with its outcomes by status , those in use first; a null status: no outcome at all.
select
  tasks.name,
  tasks.hash,
  tasks.model,
  tasks.in_use,
  outcomes.status,
  count(outcomes.sample_hash) as samples
from tasks
left join outcomes on outcomes.task_hash = tasks.hash
group by tasks.name, tasks.hash, outcomes.status
order by tasks.name, tasks.in_use desc, tasks.created_at, tasks.hash, outcomes.status

-- name: parked_by_task
-- Samples that failed in so many runs in a row that a plain run leaves them out, by task in use; if none of a name
-- is in use yet, by the newest. :parked_after
select
  tasks.name as task,
  count(*) as samples
from tasks
join outcomes on outcomes.task_hash = tasks.hash
where tasks.hash = (
    select newest.hash
    from tasks as newest
    where newest.name = tasks.name
    order by newest.in_use desc, newest.created_at desc, newest.hash desc
    limit 1
  )
  and outcomes.status = 'failed'
  and outcomes.attempt = 0
  and outcomes.failures >= :parked_after
group by tasks.name
order by tasks.name

-- name: pending_by_task
-- What a plain run would ask, by task in use and reason.
select
  pending.task,
  pending.why,
  count(*) as samples
from pending
group by pending.task, pending.why
order by pending.task, pending.why desc

-- name: row_counts
-- How many rows the tables hold that commands add to.
select 'samples' as name, count(*) as rows from samples
union all
select 'memberships', count(*) from source_samples
union all
select 'answers', count(*) from answers
union all
select 'outcomes', count(*) from outcomes
union all
select 'scores', count(*) from scores
union all
select 'lengths', count(*) from lengths
union all
select 'generations', count(*) from generations
union all
select 'batch files', count(*) from batches
union all
select 'batch results', count(*) from batch_results
union all
select 'reservations', count(*) from reservations
union all
select 'solutions', count(*) from solutions
union all
select 'contamination pairs', count(*) from contamination_pairs

-- name: sample_counts
-- Samples by kind, and how many of them have a reward above min_reward.
select
  samples.kind,
  count(*) as samples,
  coalesce(sum(
    coalesce(
      (select scores.reward from scores where scores.sample_hash = samples.hash order by scores.id desc limit 1),
      samples.reward
    ) > (select settings.value from settings where settings.key = 'min_reward')
  ), 0) as good
from samples indexed by samples_by_hash
group by samples.kind
order by samples.kind

-- name: served_models
-- Answers whose reply names another model than was asked, by both names.
select answers.model, answers.served_model, count(*) as answers
from answers
where answers.served_model is not null
group by answers.model, answers.served_model
order by answers.model, answers.served_model

-- name: sources_by_name
-- What each source holds, in the order in which they were first ingested.
select
  source_counts.source as name,
  source_counts.rows,
  source_counts.samples,
  source_counts.modules,
  source_counts.rollouts,
  source_counts.records,
  source_counts.rejected,
  source_counts.ingested_at
from source_counts
order by source_counts.source_id

-- name: unfinished_runs
-- Runs that did not end with 0 (a null status: it runs, or was killed) and that no later run made up for:
-- one of the same question, for ingest of the same sources, for synth record of the same paths, for the reading of
-- prompts by synth run of the same file, else of the same command. An ingest is made good too by later ones that ended with 0 and had each of its sources.
-- A merge that ended with 3 is done: what disagrees is no row left over. Runs of other stores are theirs to go on with.
-- A run that ended with 2 was a mistake. So was one that brought nothing (no answer that could be used, no source read)
-- before a later one of the same command, and of the same task's name, was done.
select
  runs.id,
  runs.command,
  runs.task,
  runs.task_hash,
  runs.options,
  runs.command_line,
  runs.started_at,
  runs.status,
  runs.pid
from runs
where (runs.status is null or runs.status not in (0, 2))
  and runs.origin is null
  and not (runs.command = 'merge' and runs.status is 3)
  and runs.command not glob 'batch *'
  and runs.command <> 'tasks test'
  and not exists (
    select 1
    from runs as later
    where later.id > runs.id
      and later.origin is null
      and later.command not glob 'batch *'
      and later.command <> 'tasks test'
      and case
        when runs.task is not null
          then later.task = runs.task and (runs.task_hash is null or later.task_hash = runs.task_hash)
        when runs.command = 'ingest'
          then later.command = 'ingest' and later.options ->> '$.sources' is runs.options ->> '$.sources'
        when runs.command = 'synth record'
          then later.command = 'synth record' and later.options ->> '$.paths' is runs.options ->> '$.paths'
        else
          later.command = runs.command
          and later.task is null
          and later.options ->> '$.from' is runs.options ->> '$.from'
      end
  )
  and not (
    runs.status in (1, 3)
    and exists (
      select 1
      from runs as later
      where later.id > runs.id
        and later.origin is null
        and later.command = runs.command
        and later.task is runs.task
        and later.status in (0, 3)
    )
    and case
      when runs.task is not null
        then not exists (select 1 from answers where answers.run_id = runs.id and answers.fault is null)
      else coalesce(runs.counts, '{}') = '{}' and coalesce(json_array_length(runs.options, '$.sources'), 0) = 0
    end
  )
  and not (
    runs.command = 'ingest'
    and coalesce(json_array_length(runs.options, '$.sources'), 0) > 0
    and not exists (
      select 1
      from json_each(runs.options, '$.sources') as source
      where not exists (
        select 1
        from runs as later, json_each(later.options, '$.sources') as done
        where later.id > runs.id
          and later.origin is null
          and later.command = 'ingest'
          and later.status = 0
          and done.value = source.value
      )
    )
  )
order by runs.id
