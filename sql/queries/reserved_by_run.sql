-- By run, the requests that were sent under a budget and that nothing is known of since: killed, cut off, timed out.
-- is_open: the run has no end: it runs, or was killed. What waits for a batch file is left out. :task null: every task
select
  runs.id as run_id,
  runs.command as command,
  runs.task as task,
  runs.pid as pid,
  runs.status is null as is_open,
  count(*) as requests,
  sum(reservations.tokens) as tokens,
  sum(reservations.cost_usd) as cost_usd
from reservations
join runs on runs.id = reservations.run_id
where
  reservations.try is null
  and (:task is null or runs.task = :task)
  and not exists (
    select 1
    from handed_out
    join batches on batches.id = handed_out.batch_id
    where
      handed_out.request_hash = reservations.request_hash
      and handed_out.attempt = reservations.attempt
      and batches.run_id = reservations.run_id
  )
group by runs.id, runs.command, runs.task, runs.pid, runs.status
order by runs.id
