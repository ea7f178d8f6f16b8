-- A result was read.
-- :result_hash SHA-256   :try null for an error   :reason null for an answer
insert into batch_results (result_hash, handed_out_id, result_id, try, reason, run_id, read_at)
values (:result_hash, :handed_out_id, :result_id, :try, :reason, :run_id, :read_at)
