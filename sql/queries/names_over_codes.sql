-- Module names under which the eligible rows of `filtered` have different code, most codes first; and how
-- many such names there are in all. :limit number of names
select
  samples.module_name,
  count(distinct samples.code_hash) as codes,
  count(*) as rows,
  count(*) over () as names
from filtered
join temp.eligible on eligible.sample_hash = filtered.sample_hash
join samples indexed by samples_by_hash on samples.hash = filtered.sample_hash
where samples.module_name is not null
group by samples.module_name
having count(distinct samples.code_hash) > 1
order by count(distinct samples.code_hash) desc, samples.module_name
limit :limit
