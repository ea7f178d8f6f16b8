-- name: add_answer
-- Keeps what came back for one try, raw and whole, as the next try of its attempt.
-- Counts in tokens, :latency_ms in ms, :cost_usd in US dollars.
insert into answers (
  request_hash, attempt, try, model, host, finish_reason, prompt_tokens, cached_tokens, completion_tokens,
  reasoning_tokens, cost_usd, latency_ms, run_id, answered_at, fault, refusal, content, reasoning, sent, request,
  response, served_model
)
values (
  :request_hash,
  :attempt,
  (
    select coalesce(max(answers.try) + 1, 0)
    from answers
    where answers.request_hash = :request_hash and answers.attempt = :attempt
  ),
  :model, :host, :finish_reason, :prompt_tokens, :cached_tokens, :completion_tokens,
  :reasoning_tokens, :cost_usd, :latency_ms, :run_id, :answered_at, :fault, :refusal, :content, :reasoning, :sent,
  :request, :response, :served_model
)

-- name: add_task
-- Remembers a task the first time it is run; how it is read and what it is about follow its file.
-- :hash identity   :reader JSON   :restriction its `where`, null if it has none   :run_id the run
insert into tasks (
  hash, name, about, model, parameters, in_use, restriction, reader, closing, created_at, run_id, system, template,
  label_name
)
values (
  :hash, :name, :about, :model, :parameters, 0, :restriction, :reader, :closing, :created_at, :run_id, :system,
  :template, :name
)
on conflict (hash) do update
set
  about = excluded.about,
  restriction = excluded.restriction,
  reader = excluded.reader,
  closing = excluded.closing

-- name: all_tasks
-- All stored tasks by name, of each name the one in use first, then the newest; with their outcomes (attempt 0).
select
  tasks.name,
  tasks.about,
  tasks.model,
  tasks.hash,
  tasks.in_use,
  (select count(*) from outcomes where outcomes.task_hash = tasks.hash and outcomes.attempt = 0) as outcomes,
  (
    select count(*)
    from outcomes
    where outcomes.task_hash = tasks.hash and outcomes.attempt = 0 and outcomes.status = 'ok'
  ) as ok
from tasks
order by tasks.name, tasks.in_use desc, tasks.created_at desc, tasks.hash

-- name: fail_again
-- One more run in a row that a sample failed in, if it had failed before; else nothing.
-- :sample_hash   :task_hash   :attempt
update outcomes
set failures = failures + 1
where sample_hash = :sample_hash
  and task_hash = :task_hash
  and attempt = :attempt
  and status = 'failed'

-- name: newest_answers
-- The newest answer to each attempt that is a completion; no row if there is none.
-- :attempts  JSON list of [request hash, attempt]
select
  answers.request_hash,
  answers.attempt,
  answers.try,
  answers.run_id,
  answers.host,
  answers.finish_reason,
  answers.refusal,
  answers.content,
  answers.reasoning,
  answers.prompt_tokens,
  answers.completion_tokens,
  answers.reasoning_tokens,
  answers.latency_ms
from json_each(:attempts) as asked
cross join answers  -- in this order: one look-up for each
where answers.request_hash = asked.value ->> 0
  and answers.attempt = asked.value ->> 1
  and answers.fault is null
  and answers.try = (
    select max(newest.try)
    from answers as newest
    where newest.request_hash = asked.value ->> 0
      and newest.attempt = asked.value ->> 1
      and newest.fault is null
  )
order by asked.key

-- name: newest_try
-- The number of the newest try at an attempt, from 0; null if there is none. :request_hash, :attempt
select max(answers.try)
from answers
where answers.request_hash = :request_hash and answers.attempt = :attempt

-- name: set_outcome
-- What a task concluded about a sample; replaces what it concluded before.
-- :try  which answer decided it; null with :is_answered 1: the newest answer that is no fault
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

-- name: retire_unlabelled
-- Tasks without any outcome that is ok are not in use any more; gives those that were.
update tasks
set in_use = 0
where in_use = 1
  and not exists (select 1 from outcomes where outcomes.task_hash = tasks.hash and outcomes.status = 'ok')
returning name, model, hash

-- name: stored_task
-- The task of a name that is in use, else the newest. :name
select
  tasks.name,
  tasks.about,
  tasks.restriction,
  tasks.reader,
  tasks.closing,
  tasks.system,
  tasks.template,
  tasks.parameters
from tasks
where tasks.name = :name
order by tasks.in_use desc, tasks.created_at desc, tasks.hash
limit 1

-- name: tasks_named
-- The tasks of a name, the one in use first, then the newest. :name
select
  tasks.hash,
  tasks.model,
  tasks.parameters,
  tasks.in_use,
  tasks.system,
  tasks.template,
  tasks.reader,
  tasks.created_at
from tasks
where tasks.name = :name
order by tasks.in_use desc, tasks.created_at desc, tasks.hash

-- name: token_ratio
-- What the newest answers of a model used: tokens per character of the request, tokens per answer; null
-- if none reports its tokens. :model   :limit number of answers
select
  cast(sum(recent.prompt_tokens) as real) / sum(recent.request_characters) as tokens_per_character,
  avg(recent.completion_tokens) as completion_tokens,
  avg(recent.cost_usd) as cost_usd
from (
  select
    answers.prompt_tokens as prompt_tokens,
    answers.completion_tokens as completion_tokens,
    answers.cost_usd as cost_usd,
    length(answers.request) as request_characters
  from answers
  where answers.model = :model and answers.prompt_tokens > 0
  order by answers.run_id desc
  limit :limit
) as recent

-- name: use_first_task
-- Puts a task in use that has an outcome which is ok, if none of its name is in use; gives it, and how its answers are
-- read, if it did. :hash
update tasks
set in_use = 1
where hash = :hash
  and not exists (
    select 1
    from tasks as others
    where others.name = tasks.name and others.in_use = 1
  )
returning name, model, hash, reader
