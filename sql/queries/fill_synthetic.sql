-- The eligible modules that have a specification by the task `prompts` in use, in source order.
insert into temp.dataset_rows (sample_hash)
select outcomes.sample_hash
from tasks
join outcomes on outcomes.task_hash = tasks.hash and outcomes.attempt = 0 and outcomes.status = 'ok'
join temp.eligible on eligible.sample_hash = outcomes.sample_hash
where tasks.name = 'prompts'
  and tasks.in_use = 1
order by eligible.place, eligible.sample_hash
