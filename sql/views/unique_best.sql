-- The dataset `unique`: the highest reward per module name among `filtered`; on a tie the first in source order.
-- Sorted by reward, descending; equal rewards by where the module name first appears in `filtered`.
-- Rows without a module name are each their own.
-- `length_counts` has it as `unique`.
create view unique_best as
with ranked as (
  select
    placed.sample_hash as sample_hash,
    placed.module_name as module_name,
    placed.reward as reward,
    placed.difficulty as difficulty,
    placed.place as place,
    min(placed.place) over (partition by coalesce(placed.module_name, placed.sample_hash)) as name_place,
    row_number() over (
      partition by coalesce(placed.module_name, placed.sample_hash)
      order by placed.reward desc, placed.place, placed.sample_hash
    ) as rank
  from (
    select
      filtered.sample_hash as sample_hash,
      filtered.module_name as module_name,
      filtered.reward as reward,
      filtered.difficulty as difficulty,
      coalesce(
        (
          select source_samples.source_id * 1000000000000 + source_samples.position
          from source_samples
          where source_samples.sample_hash = filtered.sample_hash
          order by source_samples.source_id, source_samples.position
          limit 1
        ),
        9223372036854775807
      ) as place
    from filtered
  ) as placed
)
select
  ranked.sample_hash as sample_hash,
  ranked.module_name as module_name,
  ranked.reward as reward,
  ranked.difficulty as difficulty
from ranked
where ranked.rank = 1
order by ranked.reward desc, ranked.name_place, ranked.place, ranked.sample_hash
