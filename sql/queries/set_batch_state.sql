-- What the service says of a batch. :id   :server_id, :server_status, :output_file_id, :error_file_id   :checked_at
update batches
set
  server_id = :server_id,
  server_status = :server_status,
  output_file_id = :output_file_id,
  error_file_id = :error_file_id,
  checked_at = :checked_at
where id = :id
