-- The service has the file. :id   :input_file_id
update batches
set input_file_id = :input_file_id
where id = :id
