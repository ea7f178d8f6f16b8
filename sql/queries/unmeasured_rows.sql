-- The next chosen samples that were not measured yet, with their rows.
-- :tokenizer, :template_hash   :after position   :limit number of samples
select
  measuring.position,
  measuring.sample_hash,
  cast(samples.row as blob) as row  -- bytes: UTF-8 is not decoded to be parsed
from temp.measuring
join samples on samples.hash = measuring.sample_hash
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
