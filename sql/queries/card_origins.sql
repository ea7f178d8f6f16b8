-- Which models and licences the rows of a dataset name: the model of a rollout, and `licenses` of the row or of its
-- `info` (an object, or JSON as text), as JSON. Null where a row names none.
select
  named.model,
  named.licences,
  count(*) as rows
from (
  select
    described.row ->> '$.model' as model,
    coalesce(
      nullif(described.row -> '$.licenses', 'null'),
      nullif(iif(json_valid(described.info), described.info -> '$.licenses', null), 'null')
    ) as licences
  from (
    select
      samples.row as row,
      nullif(trim(samples.row ->> '$.info', char(9, 10, 13, 32)), '') as info
    from temp.dataset_rows
    cross join samples on samples.hash = dataset_rows.sample_hash
  ) as described
) as named
group by named.model, named.licences
order by rows desc, named.model, named.licences
