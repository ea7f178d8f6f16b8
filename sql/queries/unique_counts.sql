-- What `unique` makes of the eligible rows of `filtered`: rows in, different names and codes among them, rows
-- kept, lowest and highest reward kept, and how many names and codes have no row among those kept.
with given as (
  select
    filtered.sample_hash as sample_hash,
    samples.module_name as module_name,
    samples.code_hash as code_hash
  from filtered
  join temp.eligible on eligible.sample_hash = filtered.sample_hash
  join samples indexed by samples_by_hash on samples.hash = filtered.sample_hash
),
kept as (
  select
    samples.module_name as module_name,
    samples.code_hash as code_hash
  from temp.dataset_rows
  join samples indexed by samples_by_hash on samples.hash = dataset_rows.sample_hash
)
select
  (select count(*) from given) as rows,
  (select count(distinct given.module_name) from given) as names,
  (select count(distinct given.code_hash) from given) as codes,
  (select count(*) from temp.dataset_rows) as kept,
  (select min(dataset_rows.reward) from temp.dataset_rows) as lowest,
  (select max(dataset_rows.reward) from temp.dataset_rows) as highest,
  (select count(distinct given.module_name) from given)
    - (select count(distinct kept.module_name) from kept) as lost_names,
  (select count(distinct given.code_hash) from given)
    - (select count(distinct kept.code_hash) from kept) as lost_codes
