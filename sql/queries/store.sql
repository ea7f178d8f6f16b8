-- name: begin_run
-- Records that a command began. :options JSON object   :task, :task_hash null if it asks about none
-- :command_line what goes on with it, null if nothing is known
insert into runs (command, options, started_at, pid, task, task_hash, kbetl_version, command_line)
values (:command, :options, :started_at, :pid, :task, :task_hash, :kbetl_version, :command_line)

-- name: change_setting
-- Changes a setting that is there. :key its name   :value the new value
update settings
set value = :value
where key = :key

-- name: datasets_with_rows
-- Which datasets have a row: 1 or 0.
select 'rollouts' as dataset, exists (select 1 from samples where samples.kind = 'rollout') as has_rows
union all
select 'records', exists (select 1 from samples where samples.kind = 'record')
union all
select 'filtered', exists (select 1 from filtered)
union all
select 'synthetic', exists (select 1 from synthetic)

-- name: end_run
-- A command ended. :status exit status   :counts JSON object   :cost_usd US dollars, null where unknown
update runs
set
  status = :status,
  ended_at = :ended_at,
  counts = :counts,
  cost_usd = :cost_usd
where id = :run_id

-- name: last_finished_run
-- The newest run that asked about a task what was missing, and what its question was: if no run is left over, a
-- resumed one goes on with its model, server and parameters. Retries are left out: their parameters may be others.
-- :task its name   :task_hash null: of those that ended with 0; else of all that asked this
select
  runs.id,
  runs.command,
  runs.options,
  runs.task,
  runs.task_hash,
  runs.started_at,
  runs.ended_at,
  runs.status,
  runs.pid
from runs
where runs.task = :task
  and runs.origin is null
  and runs.command not glob 'batch *'
  and runs.command <> 'tasks test'
  and coalesce(runs.options ->> '$.retry', '[]') = '[]'
  and (runs.task_hash = :task_hash or (:task_hash is null and runs.status = 0))
  and exists (select 1 from outcomes where outcomes.task_hash = runs.task_hash)
order by runs.id desc
limit 1

-- name: last_run
-- The newest run about a task. :task its name
-- :is_left_over 1: the newest that is not dealt with: it did not end with 0 (stopped, killed, something left over),
-- and no later run of the same question did that went on with it, or that chose as much; one without any ok outcome is
-- a mistake once a run of another question ended with 0. 0: whichever it is.
select
  runs.id,
  runs.command,
  runs.options,
  runs.task,
  runs.task_hash,
  runs.started_at,
  runs.ended_at,
  runs.status,
  runs.pid
from runs
where runs.task = :task
  and runs.origin is null
  and (
    :is_left_over = 0
    or (
      runs.command not glob 'batch *'
      and runs.command <> 'tasks test'
      and (runs.status is null or runs.status <> 0)
      and not (
        not exists (select 1 from outcomes where outcomes.task_hash = runs.task_hash and outcomes.status = 'ok')
        and exists (
          select 1
          from runs as later
          where later.id > runs.id
            and later.origin is null
            and later.task = runs.task
            and later.command not glob 'batch *'
            and later.command <> 'tasks test'
            and later.task_hash is not runs.task_hash
            and later.status = 0
            and exists (select 1 from outcomes where outcomes.task_hash = later.task_hash)
        )
      )
      and not exists (
        select 1
        from runs as later
        where later.id > runs.id
          and later.origin is null
          and later.task = runs.task
          and later.command not glob 'batch *'
          and later.command <> 'tasks test'
          and later.task_hash = runs.task_hash
          and later.status = 0
          and (
            later.options ->> '$.resumed_run' = coalesce(runs.options ->> '$.resumed_run', runs.id)
            or (
              later.options ->> '$.retry' = runs.options ->> '$.retry'
              and later.options ->> '$.sources' in ('[]', runs.options ->> '$.sources')
              and coalesce(later.options ->> '$.where' = runs.options ->> '$.where', later.options ->> '$.where' is null)
              and later.options ->> '$.min_reward' is runs.options ->> '$.min_reward'
              and coalesce(later.options ->> '$.limit' >= runs.options ->> '$.limit', later.options ->> '$.limit' is null)
            )
          )
      )
    )
  )
order by runs.id desc
limit 1

-- name: setting
-- The value of a setting, no row if there is none. :key its name
select settings.value
from settings
where settings.key = :key
