-- What rows of `filtered` have in common across the sides of `splits`: a code, a module name, or a prompt
-- (kind), which one (key: code hash, name, the prompt's JSON), and how many rows have it on each side. With
-- split_by code no code is listed, with split_by name no name; what remains is worth knowing: a name over
-- different codes, or one prompt for several modules. Rows without such a field cannot be compared.
create view split_leaks as
with placed as materialized (
  select
    filtered.sample_hash as sample_hash,
    samples.code_hash as code_hash,
    samples.module_name as module_name,
    splits.split as split
  from filtered
  join samples indexed by samples_by_hash on samples.hash = filtered.sample_hash
  join splits on splits.sample_hash = filtered.sample_hash
),
keyed as (
  select
    'code' as kind,
    placed.code_hash as key,
    placed.split as split
  from placed
  union all
  select
    'name',
    placed.module_name,
    placed.split
  from placed
  union all
  select
    'prompt',
    coalesce(samples.row ->> field_maps.prompt, samples.row ->> '$.prompt'),
    placed.split
  from placed
  join samples on samples.hash = placed.sample_hash
  left join mapped_samples on mapped_samples.sample_hash = placed.sample_hash
  left join field_maps on field_maps.id = mapped_samples.field_map_id
)
select
  keyed.kind as kind,
  keyed.key as key,
  sum(keyed.split = 'train') as train,
  sum(keyed.split = 'validation') as validation
from keyed
where keyed.key is not null
group by keyed.kind, keyed.key
having sum(keyed.split = 'train') > 0
  and sum(keyed.split = 'validation') > 0
