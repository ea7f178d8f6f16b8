-- name: add_map
-- Keeps a map of columns, unless it is there. :map its one spelling, and the SQLite path of each name or null
insert into field_maps (
  map, prompt, completion, reasoning, reward, module_name, python_code, triton_code, model, environment, sample_group
)
values (
  :map, :prompt, :completion, :reasoning, :reward, :module_name, :python_code, :triton_code, :model, :environment, :group
)
on conflict (map) do nothing

-- name: add_mapped_sample
-- A sample is read by a map. :sample_hash   :field_map_id
insert into mapped_samples (sample_hash, field_map_id)
values (:sample_hash, :field_map_id)
on conflict (sample_hash) do nothing

-- name: all_maps
-- The maps, each with the paths that are derived from it.
select
  field_maps.map,
  field_maps.prompt,
  field_maps.completion,
  field_maps.reasoning,
  field_maps.reward,
  field_maps.module_name,
  field_maps.python_code,
  field_maps.triton_code,
  field_maps.model,
  field_maps.environment,
  field_maps.sample_group
from field_maps
order by field_maps.id

-- name: any_read_otherwise
-- Whether any sample is read by another map than this. :map its one spelling, null for none
select
  exists (
    select 1
    from mapped_samples
    join field_maps on field_maps.id = mapped_samples.field_map_id
    where field_maps.map is not :map
  )
  or (
    :map is not null
    and exists (
      select 1
      from samples indexed by samples_by_hash
      where not exists (select 1 from mapped_samples where mapped_samples.sample_hash = samples.hash)
    )
  ) as is_any

-- name: drop_facts
-- Takes back what was read from the row of a sample. :sample_hash
delete from rollout_facts
where sample_hash = :sample_hash

-- name: drop_lengths
-- Takes back what was measured of a sample. :sample_hash
delete from lengths
where sample_hash = :sample_hash

-- name: drop_mapped_sample
-- A sample is read by no map. :sample_hash
delete from mapped_samples
where sample_hash = :sample_hash

-- name: drop_other_reasoning
-- Takes back the reasoning that was found beside the messages of a sample. :sample_hash
delete from other_reasoning
where sample_hash = :sample_hash

-- name: drop_outcomes
-- Takes back what tasks concluded about a sample; the answers stay. :sample_hash   :task_hashes JSON list
delete from outcomes
where sample_hash = :sample_hash
  and task_hash in (select value from json_each(:task_hashes))

-- name: drop_questions
-- What batch files ask for tasks about a sample settles it no more. :sample_hash   :task_hashes JSON list
delete from handed_out_samples
where sample_hash = :sample_hash
  and task_hash in (select value from json_each(:task_hashes))

-- name: drop_solution
-- Forgets which code a rollout holds. :sample_hash
delete from solutions
where sample_hash = :sample_hash

-- name: kept_map
-- The map by which the rows of a source are read; null for none, no row for an unknown source. :name of the source
select sources.field_map
from sources
where sources.name = :name

-- name: map_id
-- The id of a map. :map its one spelling
select field_maps.id
from field_maps
where field_maps.map = :map

-- name: mapped_sample_of_line
-- Which sample a line is, if it is read by this map; else no row. :line_hash SHA-256 of its bytes   :field_map_id null for none
select known_lines.sample_hash, samples.kind
from known_lines
join samples indexed by samples_by_hash on samples.hash = known_lines.sample_hash
where known_lines.line_hash = :line_hash
  and not exists (
    select 1
    from original_lines
    where original_lines.hash = :line_hash
  )
  and (
    select mapped_samples.field_map_id
    from mapped_samples
    where mapped_samples.sample_hash = known_lines.sample_hash
  ) is :field_map_id

-- name: names_of_tasks
-- The names of the stored tasks.
select distinct tasks.name
from tasks
order by tasks.name

-- name: stored_reading
-- By which map a stored sample is read, and another source that holds it, if any. :sample_hash   :source its name
select
  field_maps.map,
  (
    select sources.name
    from source_samples
    join sources on sources.id = source_samples.source_id
    where source_samples.sample_hash = samples.hash and sources.name <> :source
    order by sources.id
    limit 1
  ) as other_source
from samples indexed by samples_by_hash
left join mapped_samples on mapped_samples.sample_hash = samples.hash
left join field_maps on field_maps.id = mapped_samples.field_map_id
where samples.hash = :sample_hash

-- name: task_templates
-- What each stored task asks about, and with which template.
select
  tasks.hash,
  tasks.about,
  tasks.template
from tasks

-- name: update_sample
-- What is derived from the row of a sample, read anew. Columns as in `samples`.
update samples
set
  kind = :kind,
  module_name = :module_name,
  code_hash = :code_hash,
  code_point = :code_point,
  name_point = :name_point,
  reward = :reward
where hash = :hash
