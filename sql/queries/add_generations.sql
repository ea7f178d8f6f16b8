-- Notes which places of a source answers that became rollouts have, of each answer that has none yet.
-- :source_id   :task_hash   :rollouts JSON list of [position, problem_hash, attempt, request_hash, try];
-- a null try is the newest answer that is no fault
insert into generations (source_id, position, task_hash, problem_hash, attempt, request_hash, try)
select
  :source_id,
  rollout.value ->> 0,
  :task_hash,
  rollout.value ->> 1,
  rollout.value ->> 2,
  rollout.value ->> 3,
  coalesce(
    rollout.value ->> 4,
    (
      select max(answers.try)
      from answers
      where answers.request_hash = rollout.value ->> 3
        and answers.attempt = rollout.value ->> 2
        and answers.fault is null
    )
  )
from json_each(:rollouts) as rollout
where true
on conflict (task_hash, problem_hash, attempt, request_hash, try) do nothing
