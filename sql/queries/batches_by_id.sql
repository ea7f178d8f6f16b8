-- Every batch file with what became of its requests. :id of one, null for all
select
  batches.id,
  batches.file,
  batches.file_hash,
  batches.size_bytes,
  batches.requests,
  tasks.name,
  batches.model,
  runs.command,
  batches.written_at,
  sum(handed_out.ending is null) as still_out,
  sum(coalesce(handed_out.ending = 'answered', 0)) as answered,
  sum(coalesce(handed_out.ending = 'failed', 0)) as failed,
  sum(coalesce(handed_out.ending = 'expired', 0)) as expired,
  sum(coalesce(handed_out.ending = 'released', 0)) as released,
  batches.base_url,
  batches.api_key_var,
  batches.headers,
  batches.input_file_id,
  batches.create_began_at,
  batches.server_id,
  batches.server_status,
  batches.output_file_id,
  batches.error_file_id,
  batches.checked_at,
  batches.fetched_at
from batches
join tasks on tasks.hash = batches.task_hash
join runs on runs.id = batches.run_id
join handed_out on handed_out.batch_id = batches.id
where :id is null or batches.id = :id
group by batches.id
order by batches.id
