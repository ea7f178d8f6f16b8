-- The service is about to be asked to begin, or (null) has refused. :id   :create_began_at
update batches
set create_began_at = :create_began_at
where id = :id
