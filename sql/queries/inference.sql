-- name: choosable
-- What a run that chose no sample could have chosen among: samples of some kinds, those with a reward, the highest
-- reward, one row of them, and how many records there are. :kinds JSON list   :source_ids JSON list, null for the whole store
with rewarded as (
  select
    samples.hash,
    coalesce(
      (select scores.reward from scores where scores.sample_hash = samples.hash order by scores.id desc limit 1),
      samples.reward
    ) as reward
  from samples indexed by samples_by_hash
  where samples.kind in (select value from json_each(:kinds))
    and (
      :source_ids is null
      or exists (
        select 1
        from source_samples
        where source_samples.sample_hash = samples.hash
          and source_samples.source_id in (select value from json_each(:source_ids))
      )
    )
)
select
  count(*) as samples,
  count(rewarded.reward) as rewarded,
  max(rewarded.reward) as highest,
  (
    select cast(samples.row as blob)
    from samples
    where samples.hash = (select min(rewarded.hash) from rewarded)
  ) as row,
  (
    select count(*)
    from samples indexed by samples_by_hash
    where samples.kind = 'record'
      and (
        :source_ids is null
        or exists (
          select 1
          from source_samples
          where source_samples.sample_hash = samples.hash
            and source_samples.source_id in (select value from json_each(:source_ids))
        )
      )
  ) as records
from rewarded

-- name: cut_so_far
-- How many outcomes of a task are truncated, and whether an answer of it ever came whole. :task_hash
select
  (
    select count(*)
    from outcomes
    where outcomes.task_hash = :task_hash and outcomes.status = 'truncated' and outcomes.status <> 'ok'
  ) as cut,
  exists (
    select 1
    from outcomes
    where outcomes.task_hash = :task_hash and outcomes.status in ('ok', 'unparsed', 'refused')
  ) as has_others

-- name: decided_since
-- How many outcomes a task has had since a run began, without those that failed: they are asked again. What was paid
-- for is known by its run, whatever the clock said; what an older answer decided, by the time alone.
-- :task_hash   :run_id the run   :since when it began, UTC, ISO 8601
select count(*)
from outcomes
left join answers
  on answers.request_hash = outcomes.request_hash
  and answers.attempt = outcomes.attempt
  and answers.try = outcomes.try
where outcomes.task_hash = :task_hash
  and outcomes.status <> 'failed'
  and (answers.run_id >= :run_id or outcomes.decided_at >= :since)
  and not exists (select 1 from runs where runs.id = answers.run_id and runs.origin is not null)

-- name: fields_of_a_record
-- The fields with text of the first record.
select field.key
from json_each((select samples.row from samples where samples.kind = 'record' order by samples.rowid limit 1)) as field
where field.type = 'text'
order by field.id

-- name: run_of_process
-- The run about a task that a process has open, and the task; no row if it has none. :pid
select runs.id, runs.task
from runs
where runs.pid = :pid
  and runs.origin is null
  and runs.task is not null
  and runs.status is null
order by runs.id desc
limit 1

-- name: samples_in_order
-- Samples in the order in which they came in. :hashes JSON list
select samples.hash
from samples
where samples.hash in (select value from json_each(:hashes))
order by samples.rowid
