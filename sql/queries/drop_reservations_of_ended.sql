-- Gives back what is still reserved for the requests of a batch of which nothing more will come. :batch_id
delete from reservations
where reservations.try is null
  and exists (
    select 1
    from batches
    join handed_out on handed_out.batch_id = batches.id
    where batches.id = :batch_id
      and batches.run_id = reservations.run_id
      and handed_out.request_hash = reservations.request_hash
      and handed_out.attempt = reservations.attempt
  )
