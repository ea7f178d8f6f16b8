-- What each source holds, in the order in which they were first ingested.
select
  source_counts.source,
  source_counts.rows,
  source_counts.samples,
  source_counts.modules,
  source_counts.rollouts,
  source_counts.rejected,
  source_counts.ingested_at
from source_counts
order by source_counts.source_id
