-- Leaves only the first samples that wait. :limit number of samples
delete from temp.waiting
where position not in (
  select waiting.position
  from temp.waiting
  order by waiting.position
  limit :limit
)
