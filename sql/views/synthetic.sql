-- The dataset `synthetic`: a specification per module, as a prompt, by the task `prompts` in use.
create view synthetic as
select
  outcomes.sample_hash as sample_hash,
  outcomes.value || coalesce(tasks.closing, '') as prompt,
  samples.module_name as module_name,
  coalesce(samples.row ->> '$.python_code', samples.row ->> '$.pytorch_code', samples.row ->> '$.code') as python_code,
  coalesce(samples.row ->> '$.triton_code', samples.row ->> '$.original_triton_code') as triton_code,
  samples.row ->> '$.uuid' as uuid
from tasks
join outcomes on outcomes.task_hash = tasks.hash and outcomes.attempt = 0 and outcomes.status = 'ok'
join samples on samples.hash = outcomes.sample_hash
where tasks.name = 'prompts'
  and tasks.in_use = 1
