-- What was reserved for a request that is out in a file which no service was given: taking it back gives that back.
-- :request_hash, :attempt
select
  reservations.tokens,
  reservations.cost_usd
from handed_out
join batches on batches.id = handed_out.batch_id
join reservations
  on reservations.run_id = batches.run_id
  and reservations.request_hash = handed_out.request_hash
  and reservations.attempt = handed_out.attempt
where handed_out.request_hash = :request_hash
  and handed_out.attempt = :attempt
  and handed_out.ending is null
  and batches.create_began_at is null
  and reservations.try is null
order by reservations.id
limit 1
