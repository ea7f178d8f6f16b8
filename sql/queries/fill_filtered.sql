-- The rows of `filtered` among the eligible samples, in source order.
insert into temp.dataset_rows (sample_hash, reward, difficulty)
select
  filtered.sample_hash,
  filtered.reward,
  filtered.difficulty
from filtered
join temp.eligible on eligible.sample_hash = filtered.sample_hash
order by eligible.place, eligible.sample_hash
