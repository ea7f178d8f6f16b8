-- Codes that the eligible rows of `filtered` have under several module names, most names first; and how many
-- such codes there are in all. names is a JSON list. :limit number of codes
select
  named.code_hash,
  json_group_array(named.module_name) as names,
  sum(named.rows) as rows,
  count(*) over () as codes
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
