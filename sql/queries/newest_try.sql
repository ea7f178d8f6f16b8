-- The number of the newest try at an attempt, from 0; null where there is none. :request_hash, :attempt
select max(answers.try)
from answers
where answers.request_hash = :request_hash and answers.attempt = :attempt
