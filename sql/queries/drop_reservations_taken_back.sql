-- Gives back what was reserved for requests that were taken back from files that no service was given.
delete from reservations
where reservations.try is null
  and exists (
    select 1
    from handed_out
    join batches on batches.id = handed_out.batch_id
    where handed_out.request_hash = reservations.request_hash
      and handed_out.attempt = reservations.attempt
      and handed_out.ending = 'released'
      and batches.run_id = reservations.run_id
      and batches.create_began_at is null
  )
