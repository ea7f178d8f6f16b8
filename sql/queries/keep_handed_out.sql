-- Remembers the requests of a batch file as handed out. :batch_id
insert into handed_out (batch_id, request_hash, attempt, custom_id, request)
select :batch_id, handing.request_hash, handing.attempt, handing.custom_id, handing.request
from temp.handing
order by handing.line
