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
  and (
    :is_left_over = 0
    or (
      runs.command not glob 'batch *'
      and (runs.status is null or runs.status <> 0)
      and not (
        not exists (select 1 from outcomes where outcomes.task_hash = runs.task_hash and outcomes.status = 'ok')
        and exists (
          select 1
          from runs as later
          where later.id > runs.id
            and later.task = runs.task
            and later.command not glob 'batch *'
            and later.task_hash is not runs.task_hash
            and later.status = 0
            and exists (select 1 from outcomes where outcomes.task_hash = later.task_hash)
        )
      )
      and not exists (
        select 1
        from runs as later
        where later.id > runs.id
          and later.task = runs.task
          and later.command not glob 'batch *'
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
