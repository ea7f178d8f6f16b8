-- name: add_length
-- Stores the token counts of a sample, or why the template refused it, unless another process already did.
insert into lengths (
  sample_hash, tokenizer, template_hash, prompt_tokens, completion_tokens, total_tokens, unreached, refusal
)
values (
  :sample_hash, :tokenizer, :template_hash, :prompt_tokens, :completion_tokens, :total_tokens, :unreached, :refusal
)
on conflict (tokenizer, template_hash, sample_hash) do nothing

-- name: chosen_histogram
-- The number of selected samples by difficulty (null if not rated) and length. :tokenizer, :template_hash
select
  outcomes.value as difficulty,
  lengths.total_tokens as total_tokens,
  count(*) as samples
from temp.measuring
join lengths
  on lengths.tokenizer = :tokenizer
  and lengths.template_hash = :template_hash
  and lengths.sample_hash = measuring.sample_hash
  and lengths.total_tokens is not null
left join outcomes
  on outcomes.task_hash = (select tasks.hash from tasks where tasks.name = 'difficulty' and tasks.in_use = 1)
  and outcomes.sample_hash = measuring.sample_hash
  and outcomes.attempt = 0
group by outcomes.value, lengths.total_tokens
order by lengths.total_tokens, outcomes.value

-- name: chosen_lengths
-- The number of selected samples that are measured, and their tokens in all. :tokenizer, :template_hash
select
  count(*) as rollouts,
  count(lengths.total_tokens) as measured,
  count(lengths.refusal) as refused,
  count(lengths.unreached) as unreached,
  coalesce(sum(lengths.prompt_tokens), 0) as prompt_tokens,
  coalesce(sum(lengths.completion_tokens), 0) as completion_tokens
from temp.measuring
left join lengths
  on lengths.tokenizer = :tokenizer
  and lengths.template_hash = :template_hash
  and lengths.sample_hash = measuring.sample_hash

-- name: chosen_refusals
-- The reasons why the template refused selected samples, with their number and one of them. :tokenizer, :template_hash
select
  lengths.refusal as reason,
  count(*) as samples,
  min(lengths.sample_hash) as example
from lengths
join temp.measuring on measuring.sample_hash = lengths.sample_hash
where lengths.tokenizer = :tokenizer
  and lengths.template_hash = :template_hash
  and lengths.refusal is not null
group by lengths.refusal
order by count(*) desc, lengths.refusal

-- name: chosen_unreached
-- The fields of selected samples whose text is missing in the rendered text, with the number of samples and one of
-- them. :tokenizer, :template_hash
select
  field.value as field,
  count(*) as samples,
  min(lengths.sample_hash) as example
from lengths
join temp.measuring on measuring.sample_hash = lengths.sample_hash
join json_each(lengths.unreached) as field
where lengths.tokenizer = :tokenizer
  and lengths.template_hash = :template_hash
  and lengths.unreached is not null
group by field.value
order by count(*) desc, field.value

-- name: count_unmeasured
-- The number of selected samples that are not measured yet. :tokenizer, :template_hash
select count(*) as samples
from temp.measuring
where not exists (
  select 1
  from lengths
  where lengths.tokenizer = :tokenizer
    and lengths.template_hash = :template_hash
    and lengths.sample_hash = measuring.sample_hash
)

-- name: drop_dataset_rows
-- Drops the table of a dataset's rows.
drop table if exists temp.dataset_rows

-- name: drop_eligible
-- Drops the table of the samples from which a dataset selects.
drop table if exists temp.eligible

-- name: drop_measuring
-- Drops the selection of an earlier command on this connection.
drop table if exists temp.measuring

-- name: measure_rows
-- Selects the rows of a dataset in the order of the table, so that wide rows are read sequentially.
insert into temp.measuring (sample_hash)
select dataset_rows.sample_hash
from temp.dataset_rows
join samples on samples.hash = dataset_rows.sample_hash
order by samples.rowid

-- name: measuring_table
-- Table of the rollouts of a dataset, in the order in which they are measured.
create temp table measuring (
  position integer primary key,  -- from 1
  sample_hash text not null unique
) strict

-- name: samples_without_length
-- Modules and records, which have no completion to measure. :source_ids JSON list of the sources they are from, null for any
select
  coalesce(sum(samples.kind = 'module'), 0) as modules,
  coalesce(sum(samples.kind = 'record'), 0) as records
from samples indexed by samples_by_hash
where samples.kind in ('module', 'record')
  and (
    :source_ids is null
    or exists (
      select 1
      from source_samples
      where source_samples.sample_hash = samples.hash
        and source_samples.source_id in (select value from json_each(:source_ids))
    )
  )

-- name: sources_by_uri
-- The sources with a name or a URI. :name
select
  sources.id,
  sources.name
from sources
where sources.name = :name
  or sources.uri = :name
order by sources.id

-- name: tokenizer_name
-- The name under which this store has a tokenizer; null if nothing was measured with it. :template_hash
select min(length_templates.tokenizer)
from length_templates
where length_templates.template_hash = :template_hash

-- name: unmeasured_rows
-- The next selected samples that are not measured yet, with their rows.
-- :tokenizer, :template_hash   :after position   :limit number of samples
select
  measuring.position,
  measuring.sample_hash,
  cast(samples.row as blob) as row,  -- bytes: UTF-8 is not decoded to be parsed
  field_maps.map as field_map
from temp.measuring
join samples on samples.hash = measuring.sample_hash
left join mapped_samples on mapped_samples.sample_hash = measuring.sample_hash
left join field_maps on field_maps.id = mapped_samples.field_map_id
where measuring.position > :after
  and not exists (
    select 1
    from lengths
    where lengths.tokenizer = :tokenizer
      and lengths.template_hash = :template_hash
      and lengths.sample_hash = measuring.sample_hash
  )
order by measuring.position
limit :limit
