-- The tokenizers and templates that samples were measured with, numbered. A loose scan: it reads an entry of the
-- index for each, not for each sample.
create view length_templates as
with recursive names (tokenizer) as (
  select min(lengths.tokenizer)
  from lengths
  union all
  select (select min(lengths.tokenizer) from lengths where lengths.tokenizer > names.tokenizer)
  from names
  where names.tokenizer is not null
),
templates (tokenizer, template_hash) as (
  select
    names.tokenizer,
    (select min(lengths.template_hash) from lengths where lengths.tokenizer = names.tokenizer)
  from names
  where names.tokenizer is not null
  union all
  select
    templates.tokenizer,
    (
      select min(lengths.template_hash)
      from lengths
      where lengths.tokenizer = templates.tokenizer
        and lengths.template_hash > templates.template_hash
    )
  from templates
  where templates.template_hash is not null
)
select
  row_number() over (order by templates.tokenizer, templates.template_hash) as number,
  templates.tokenizer as tokenizer,
  templates.template_hash as template_hash
from templates
where templates.template_hash is not null
