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
