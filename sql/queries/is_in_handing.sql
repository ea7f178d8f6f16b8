-- Whether the batch file that is being written has a request: a row, or none. :request_hash, :attempt
select 1
from temp.handing
where handing.request_hash = :request_hash
  and handing.attempt = :attempt
