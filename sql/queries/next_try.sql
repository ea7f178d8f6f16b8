-- The number of the next try at an attempt, from 0. :request_hash, :attempt
select coalesce(max(answers.try) + 1, 0)
from answers
where answers.request_hash = :request_hash and answers.attempt = :attempt
