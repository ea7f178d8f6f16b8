-- How many samples wait, by why; `other_task` is the task of the same name that has an outcome for them,
-- the one in use before the newest. :task_hash, :name of the task
select
  waiting.why,
  (
    select tasks.hash
    from outcomes
    join tasks on tasks.hash = outcomes.task_hash
    where outcomes.sample_hash = waiting.sample_hash
      and outcomes.attempt = 0
      and tasks.name = :name
      and tasks.hash <> :task_hash
      and waiting.why = 'new'
    order by tasks.in_use desc, tasks.created_at desc, tasks.hash
    limit 1
  ) as other_task,
  count(*) as samples
from temp.waiting
group by waiting.why, other_task
order by waiting.why, other_task
