-- Batch files of `synth` whose answers have not all become rollouts, with what the run that wrote them was told.
select
  batches.id,
  runs.options
from batches
join runs on runs.id = batches.run_id
where runs.command = 'batch write synth'
  and exists (
    select 1
    from handed_out
    join handed_out_samples on handed_out_samples.handed_out_id = handed_out.id
    where handed_out.batch_id = batches.id
      and handed_out.ending = 'answered'
      and not exists (
        select 1
        from generations
        where generations.task_hash = handed_out_samples.task_hash
          and generations.problem_hash = handed_out_samples.sample_hash
          and generations.attempt = handed_out.attempt
          and generations.request_hash = handed_out.request_hash
      )
  )
order by batches.id
