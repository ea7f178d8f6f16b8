-- Every answer's identity and the request as asked.
select
  answers.request_hash,
  answers.attempt,
  answers.try,
  answers.request
from answers
