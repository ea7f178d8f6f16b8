-- The rows of one side of `synthetic`, in order; uuid is JSON text, as the row has it. :split null where there are no splits
select
  dataset_rows.sample_hash,
  synthetic.prompt,
  synthetic.module_name,
  synthetic.python_code,
  synthetic.triton_code,
  samples.row -> '$.uuid' as uuid
from temp.dataset_rows
cross join synthetic on synthetic.sample_hash = dataset_rows.sample_hash
join samples indexed by samples_by_hash on samples.hash = dataset_rows.sample_hash
where dataset_rows.split is :split
order by dataset_rows.rank
