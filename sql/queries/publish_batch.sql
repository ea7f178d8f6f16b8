-- A batch file got its name. :id   :written_at
update batches
set written_at = :written_at
where id = :id
