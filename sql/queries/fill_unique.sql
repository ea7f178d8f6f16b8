-- The highest reward per module among the eligible rows of `filtered`; on a tie the first in source order.
-- Sorted by reward, descending; equal rewards by where the name first appears in `filtered`. Rows without the name or code that they are grouped by are each their own.
-- :by name or code
insert into temp.dataset_rows (sample_hash, reward, difficulty)
select
  ranked.sample_hash,
  ranked.reward,
  ranked.difficulty
from (
  select
    filtered.sample_hash as sample_hash,
    filtered.reward as reward,
    filtered.difficulty as difficulty,
    eligible.place as place,
    min(eligible.place) over (
      partition by coalesce(samples.module_name, filtered.sample_hash)
    ) as name_place,
    row_number() over (
      partition by coalesce(
        case :by when 'code' then samples.code_hash else samples.module_name end,
        filtered.sample_hash
      )
      order by filtered.reward desc, eligible.place, filtered.sample_hash
    ) as rank
  from filtered
  join temp.eligible on eligible.sample_hash = filtered.sample_hash
  join samples indexed by samples_by_hash on samples.hash = filtered.sample_hash
) as ranked
where ranked.rank = 1
order by ranked.reward desc, ranked.name_place, ranked.place, ranked.sample_hash
