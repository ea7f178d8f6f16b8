-- The hand-out that a result is about: that of its batch, else the one that is out, else the newest.
-- :request_hash, :attempt   :batch_id the batch that brought it, null where that is not known
select
  handed_out.id,
  handed_out.batch_id,
  batches.task_hash,
  batches.run_id,
  handed_out.ending,
  coalesce(
    handed_out.request,
    (
      select answers.request
      from answers
      where answers.request_hash = handed_out.request_hash and answers.attempt = handed_out.attempt
      limit 1
    )
  ) as request
from handed_out
join batches on batches.id = handed_out.batch_id
where handed_out.request_hash = :request_hash
  and handed_out.attempt = :attempt
order by handed_out.batch_id is :batch_id desc, handed_out.ending is null desc, handed_out.id desc
limit 1
