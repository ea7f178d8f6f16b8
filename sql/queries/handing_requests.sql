-- The requests of the batch file that is being written.
select handing.request_hash, handing.attempt
from temp.handing
order by handing.line
