-- The requests with an id, in the order of the input files. :custom_id
select batch_requests.body
from temp.batch_requests
where batch_requests.custom_id = :custom_id
order by batch_requests.id
