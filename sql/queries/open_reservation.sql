-- The oldest reservation of a request's attempt for which no answer came; no row where there is none.
-- :run_id   :request_hash   :attempt
select reservations.id
from reservations
where
  reservations.run_id = :run_id
  and reservations.request_hash = :request_hash
  and reservations.attempt = :attempt
  and reservations.try is null
order by reservations.id
limit 1
