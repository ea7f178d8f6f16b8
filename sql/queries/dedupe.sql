-- name: codes_over_names
-- Codes that the eligible rows of `filtered` have under several module names, most names first; and total, how
-- many such codes there are. names is a JSON list. :limit number of codes
select
  named.code_hash,
  json_group_array(named.module_name) as names,
  sum(named.rows) as rows,
  count(*) over () as total
from (
  select
    samples.code_hash as code_hash,
    samples.module_name as module_name,
    count(*) as rows
  from filtered
  join temp.eligible on eligible.sample_hash = filtered.sample_hash
  join samples indexed by samples_by_hash on samples.hash = filtered.sample_hash
  where samples.code_hash is not null
    and samples.module_name is not null
  group by samples.code_hash, samples.module_name
  order by samples.code_hash, samples.module_name
) as named
group by named.code_hash
having count(*) > 1
order by count(*) desc, named.code_hash
limit :limit

-- name: names_over_codes
-- Module names under which the eligible rows of `filtered` have different code, most codes first; and total, how
-- many such names there are. :limit number of names
select
  samples.module_name,
  count(distinct samples.code_hash) as codes,
  count(*) as rows,
  count(*) over () as total
from filtered
join temp.eligible on eligible.sample_hash = filtered.sample_hash
join samples indexed by samples_by_hash on samples.hash = filtered.sample_hash
where samples.module_name is not null
group by samples.module_name
having count(distinct samples.code_hash) > 1
order by count(distinct samples.code_hash) desc, samples.module_name
limit :limit

-- name: unique_counts
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

-- name: unique_top
-- The first rows of `unique`. :limit number of rows
select
  dataset_rows.sample_hash,
  samples.module_name,
  dataset_rows.reward,
  dataset_rows.difficulty
from temp.dataset_rows
join samples indexed by samples_by_hash on samples.hash = dataset_rows.sample_hash
order by dataset_rows.position
limit :limit
