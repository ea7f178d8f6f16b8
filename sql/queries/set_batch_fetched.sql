-- All that the service has of a batch was read. :id   :fetched_at
update batches
set fetched_at = :fetched_at
where id = :id
