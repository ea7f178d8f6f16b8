-- One more sample that a request in a batch file settles. :handed_out_id   :task_hash   :sample_hash
insert into handed_out_samples (handed_out_id, task_hash, sample_hash)
values (:handed_out_id, :task_hash, :sample_hash)
on conflict (sample_hash, task_hash, handed_out_id) do nothing
