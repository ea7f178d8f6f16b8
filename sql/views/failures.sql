-- Every outcome that is not ok, of every task, with its reason; in_use = 1 for the tasks the datasets use.
create view failures as
select
  outcomes.sample_hash as sample_hash,
  tasks.name as task,
  outcomes.status as status,
  outcomes.reason as reason,
  samples.module_name as module_name,
  tasks.model as model,
  outcomes.task_hash as task_hash,
  tasks.in_use as in_use,
  outcomes.attempt as attempt,
  outcomes.decided_at as decided_at,
  answers.content as answer
from outcomes
join tasks on tasks.hash = outcomes.task_hash
join samples on samples.hash = outcomes.sample_hash
left join answers
  on answers.request_hash = outcomes.request_hash
  and answers.attempt = outcomes.attempt
  and answers.try = outcomes.try
where outcomes.status <> 'ok'
