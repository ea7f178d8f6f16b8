-- The hand-out of a request that is out in a batch file, and whether a service was asked to begin that file;
-- no row where it is in none. :request_hash, :attempt
select
  handed_out.id,
  handed_out.batch_id,
  batches.create_began_at is not null as is_at_service
from handed_out
join batches on batches.id = handed_out.batch_id
where handed_out.request_hash = :request_hash
  and handed_out.attempt = :attempt
  and handed_out.ending is null
