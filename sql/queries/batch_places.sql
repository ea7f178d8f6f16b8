-- Where batch files were written, and whether one is recorded and has not got its name yet.
select
  batches.file,
  batches.written_at is null as is_beside
from batches
order by batches.id
