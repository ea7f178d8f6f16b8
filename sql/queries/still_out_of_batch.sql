-- The requests of a batch file that are still out. :id of the batch   :after id of a hand-out   :limit
select
  handed_out.id,
  handed_out.request_hash,
  handed_out.attempt
from handed_out
where handed_out.batch_id = :id
  and handed_out.ending is null
  and handed_out.id > :after
order by handed_out.id
limit :limit
