-- The hand-out of a request that is out in a batch file; no row where it is in none. :request_hash, :attempt
select
  handed_out.id,
  handed_out.batch_id
from handed_out
where handed_out.request_hash = :request_hash
  and handed_out.attempt = :attempt
  and handed_out.ending is null
