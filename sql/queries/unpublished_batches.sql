-- Batch files that are recorded and have not got their name: a command was stopped in between.
select
  batches.id,
  batches.file,
  batches.size_bytes
from batches
where batches.written_at is null
order by batches.id
