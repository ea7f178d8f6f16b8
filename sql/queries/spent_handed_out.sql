-- Requests of a task's name that wait for a batch file, or that a service was asked to answer before they were taken
-- back and has not, as far as no reservation counts them: the model and the request as asked. :task
select
  batches.model as model,
  handed_out.request as request
from runs
join batches on batches.run_id = runs.id
join handed_out on handed_out.batch_id = batches.id
where
  runs.task = :task
  and handed_out.request is not null
  and (
    handed_out.ending is null
    or (
      handed_out.ending = 'released'
      and batches.create_began_at is not null
      and batches.fetched_at is null
      and handed_out.id not in (select batch_results.handed_out_id from batch_results)
    )
  )
  and not exists (
    select 1
    from reservations
    where
      reservations.run_id = batches.run_id
      and reservations.request_hash = handed_out.request_hash
      and reservations.attempt = handed_out.attempt
      and reservations.try is null
  )
