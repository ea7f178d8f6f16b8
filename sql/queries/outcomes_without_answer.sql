-- Outcomes that name an answer that is not there, or that are ok without one. One that failed may name its
-- request and no try: nothing usable came.
select
  outcomes.sample_hash,
  outcomes.task_hash,
  outcomes.attempt,
  outcomes.request_hash
from outcomes
where outcomes.try is not null
  and not exists (
    select 1
    from answers
    where answers.request_hash = outcomes.request_hash
      and answers.attempt = outcomes.attempt
      and answers.try = outcomes.try
  )
  or (outcomes.status = 'ok' and (outcomes.request_hash is null or outcomes.try is null))
order by outcomes.task_hash, outcomes.sample_hash, outcomes.attempt
