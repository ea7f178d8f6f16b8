-- A batch file that is written whole, and has not got its name yet.
-- :file path   :file_hash SHA-256 in hex   :size_bytes   :requests lines
insert into batches (run_id, task_hash, model, file, file_hash, size_bytes, requests)
values (:run_id, :task_hash, :model, :file, :file_hash, :size_bytes, :requests)
