-- Every request in a batch file whose body is kept: its identity and the body as asked.
select handed_out.request_hash, handed_out.attempt, handed_out.batch_id, handed_out.request
from handed_out
where handed_out.request is not null
