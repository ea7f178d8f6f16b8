-- The dataset `synthetic`: a specification per module, as a prompt, by the task `prompts` in use.
-- Code is looked for where the sample's map says, then in `info` (an object, or JSON as text), then in the row itself, as kbetl/samples/fields.py does.
create view synthetic as
select
  described.sample_hash as sample_hash,
  described.prompt as prompt,
  described.module_name as module_name,
  coalesce(
    described.row ->> described.python_code_path,
    described.info ->> '$.python_code',
    described.info ->> '$.pytorch_code',
    described.info ->> '$.code',
    described.row ->> '$.python_code',
    described.row ->> '$.pytorch_code',
    described.row ->> '$.code'
  ) as python_code,
  coalesce(
    described.row ->> described.triton_code_path,
    described.info ->> '$.triton_code',
    described.info ->> '$.original_triton_code',
    described.row ->> '$.triton_code',
    described.row ->> '$.original_triton_code'
  ) as triton_code,
  described.row ->> '$.uuid' as uuid
from (
  select
    outcomes.sample_hash as sample_hash,
    outcomes.value || coalesce(tasks.closing, '') as prompt,
    samples.module_name as module_name,
    samples.row as row,
    field_maps.python_code as python_code_path,
    field_maps.triton_code as triton_code_path,
    nullif(trim(samples.row ->> '$.info', char(9, 10, 13, 32)), '') as info
  from tasks
  join outcomes on outcomes.task_hash = tasks.hash and outcomes.attempt = 0 and outcomes.status = 'ok'
  join samples on samples.hash = outcomes.sample_hash
  left join mapped_samples on mapped_samples.sample_hash = outcomes.sample_hash
  left join field_maps on field_maps.id = mapped_samples.field_map_id
  where tasks.name = 'prompts'
    and tasks.in_use = 1
) as described
