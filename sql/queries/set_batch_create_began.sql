-- The service is about to be asked to begin, which it is not where a request of the file was taken back or answered;
-- or (null) has refused. :id   :create_began_at
update batches
set create_began_at = :create_began_at
where id = :id
  and (
    :create_began_at is null
    or not exists (
      select 1
      from handed_out
      where handed_out.batch_id = :id and handed_out.ending is not null
    )
  )
