-- Whether several requests of the batch share an id, 0 or 1.
select exists (
  select 1
  from temp.batch_requests
  group by batch_requests.custom_id
  having count(*) > 1
)
