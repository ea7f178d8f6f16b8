-- Every outcome of every task: value is the label as it was read, null unless status is ok; in_use = 1 for the tasks
-- whose labels `selectable`, `task_NAME` and the datasets have.
create view labels as
select
  outcomes.sample_hash as sample_hash,
  tasks.name as task,
  outcomes.attempt as attempt,
  outcomes.status as status,
  outcomes.value as value,
  outcomes.reason as reason,
  tasks.model as model,
  outcomes.task_hash as task_hash,
  tasks.in_use as in_use,
  coalesce(answers.answered_at, outcomes.decided_at) as answered_at
from outcomes
join tasks on tasks.hash = outcomes.task_hash
left join answers
  on answers.request_hash = outcomes.request_hash
  and answers.attempt = outcomes.attempt
  and answers.try = outcomes.try
