-- unfinished_runs
-- Runs that did not end with 0 (a null status: it runs, or was killed) and that no later run took the place of:
-- one of the same question, for ingest of the same sources, for synth record of the same paths, for the reading of
-- prompts by synth run of the same file, else of the same command. An ingest is made good too by later ones that ended with 0 and had each of its sources.
-- A run that ended with 2 was a mistake. So was one that brought nothing (no answer that could be used, no source read)
-- before a later one of the same command, and of the same task's name, was done.
select
  runs.id,
  runs.command,
  runs.task,
  runs.started_at,
  runs.status,
  runs.pid,
  runs.options
from runs
where (runs.status is null or runs.status not in (0, 2))
  and runs.command not glob 'batch *'
  and not exists (
    select 1
    from runs as later
    where later.id > runs.id
      and later.command not glob 'batch *'
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
          and later.command = 'ingest'
          and later.status = 0
          and done.value = source.value
      )
    )
  )
order by runs.id
