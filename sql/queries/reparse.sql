-- name: add_read_again
-- One outcome to be changed.
insert into temp.read_again (task_hash, sample_hash, attempt, status, value, reason, parser_version)
values (:task_hash, :sample_hash, :attempt, :status, :value, :reason, :parser_version)

-- name: answers_to_read
-- The outcomes of a task that an answer decided, with that answer, after an attempt at a sample. :task_hash
-- :after sample hash, '' for the first   :after_attempt number   :limit number of outcomes
select
  outcomes.sample_hash,
  outcomes.attempt,
  outcomes.status,
  outcomes.value,
  outcomes.reason,
  outcomes.parser_version,
  samples.module_name,
  answers.finish_reason,
  answers.refusal,
  answers.content,
  answers.reasoning,
  answers.fault
from outcomes
join samples indexed by samples_by_hash on samples.hash = outcomes.sample_hash
join answers
  on answers.request_hash = outcomes.request_hash
  and answers.attempt = outcomes.attempt
  and answers.try = outcomes.try
where outcomes.task_hash = :task_hash
  and (outcomes.sample_hash, outcomes.attempt) > (:after, :after_attempt)
order by outcomes.sample_hash, outcomes.attempt
limit :limit

-- name: apply_read_again
-- Replaces the old conclusions by the new ones. :decided_at UTC, ISO 8601
update outcomes
set
  status = read_again.status,
  value = read_again.value,
  reason = read_again.reason,
  parser_version = read_again.parser_version,
  decided_at = :decided_at
from temp.read_again as read_again
where outcomes.task_hash = read_again.task_hash
  and outcomes.sample_hash = read_again.sample_hash
  and outcomes.attempt = read_again.attempt

-- name: drop_read_again
-- Forgets what reading answers again would conclude.
drop table if exists temp.read_again

-- name: read_again_table
-- What reading answers again would conclude, if that differs from what is stored.
create temp table read_again (
  task_hash text not null,  -- as in outcomes
  sample_hash text not null,
  attempt integer not null,
  status text not null,
  value text,
  reason text,
  parser_version text not null,
  primary key (task_hash, sample_hash, attempt)
) strict, without rowid

-- name: set_reader
-- How the answers of a task are read from now on. :hash of the task   :reader JSON   :closing text or null
update tasks
set
  reader = :reader,
  closing = :closing
where hash = :hash

-- name: task_names
-- The names of the tasks that have outcomes.
select distinct tasks.name
from tasks
where exists (select 1 from outcomes where outcomes.task_hash = tasks.hash)
order by tasks.name

-- name: tasks_read_ok
-- The tasks of which some answer is ok as it was read again, the oldest first.
select tasks.hash
from tasks
where tasks.hash in (select read_again.task_hash from temp.read_again where read_again.status = 'ok')
order by tasks.created_at, tasks.hash
