-- What a task concluded about a sample, in place of what it concluded before.
-- :try  which answer settled it; null with :is_answered 1: the newest answer that is no fault
insert into outcomes (
  sample_hash, task_hash, attempt, status, try, request_hash, parser_version, decided_at, reason, value, failures
)
values (
  :sample_hash,
  :task_hash,
  :attempt,
  :status,
  coalesce(
    :try,
    (
      select max(answers.try)
      from answers
      where :is_answered
        and answers.request_hash = :request_hash
        and answers.attempt = :attempt
        and answers.fault is null
    )
  ),
  :request_hash, :parser_version, :decided_at, :reason, :value, :status = 'failed'
)
on conflict (task_hash, sample_hash, attempt) do update
set
  status = excluded.status,
  try = excluded.try,
  request_hash = excluded.request_hash,
  parser_version = excluded.parser_version,
  decided_at = excluded.decided_at,
  reason = excluded.reason,
  value = excluded.value,
  failures = iif(excluded.status = 'failed', outcomes.failures + 1, 0)
