-- Remembers the samples that they settle. :task_hash
insert into handed_out_samples (handed_out_id, task_hash, sample_hash)
select handed_out.id, :task_hash, handing_samples.sample_hash
from temp.handing_samples
join handed_out
  on handed_out.request_hash = handing_samples.request_hash
  and handed_out.attempt = handing_samples.attempt
  and handed_out.ending is null
where true
on conflict (sample_hash, task_hash, handed_out_id) do nothing
