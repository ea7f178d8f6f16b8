-- Notes which place in a source an answer that became a rollout has, unless it has one already.
-- :source_id, :position   :task_hash, :problem_hash, :attempt, :request_hash
-- :try  of the answer; null: the newest answer that is no fault
insert into generations (source_id, position, task_hash, problem_hash, attempt, request_hash, try)
values (
  :source_id,
  :position,
  :task_hash,
  :problem_hash,
  :attempt,
  :request_hash,
  coalesce(
    :try,
    (
      select max(answers.try)
      from answers
      where answers.request_hash = :request_hash
        and answers.attempt = :attempt
        and answers.fault is null
    )
  )
)
on conflict (task_hash, problem_hash, attempt, request_hash, try) do nothing
