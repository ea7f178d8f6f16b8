-- Every sample with all that was derived from its row.
select
  samples.hash,
  samples.kind,
  samples.module_name,
  samples.code_hash,
  samples.code_point,
  samples.name_point,
  samples.reward,
  samples.row
from samples
