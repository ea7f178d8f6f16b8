-- Rows that name an answer, a place or a row that is not there, or that count wrongly: what is wrong, in words.
-- Foreign keys are not among them: SQLite checks those.
select 'batch result about request ' || handed_out.request_hash || ': its answer, try ' || batch_results.try
  || ', is not there' as problem
from batch_results
join handed_out on handed_out.id = batch_results.handed_out_id
where batch_results.try is not null
  and not exists (
    select 1
    from answers
    where answers.request_hash = handed_out.request_hash
      and answers.attempt = handed_out.attempt
      and answers.try = batch_results.try
  )
union all
select 'request ' || handed_out.request_hash || ' of batch ' || handed_out.batch_id
  || ': neither its body nor an answer is there'
from handed_out
where handed_out.request is null
  and not exists (
    select 1
    from answers
    where answers.request_hash = handed_out.request_hash and answers.attempt = handed_out.attempt
  )
union all
select 'batch ' || batches.id || ': it has ' || count(handed_out.id) || ' requests, not the ' || batches.requests
  || ' of its file'
from batches
left join handed_out on handed_out.batch_id = batches.id
group by batches.id, batches.requests
having count(handed_out.id) <> batches.requests
union all
select 'reservation ' || reservations.id || ': its answer, try ' || reservations.try || ' of '
  || reservations.request_hash || ', is not there'
from reservations
where reservations.try is not null
  and not exists (
    select 1
    from answers
    where answers.request_hash = reservations.request_hash
      and answers.attempt = reservations.attempt
      and answers.try = reservations.try
  )
union all
select 'generated rollout ' || generations.position || ' of source ' || generations.source_id
  || ': its answer, try ' || generations.try || ' of ' || generations.request_hash || ', is not there'
from generations
where not exists (
  select 1
  from answers
  where answers.request_hash = generations.request_hash
    and answers.attempt = generations.attempt
    and answers.try = generations.try
)
union all
select 'generated rollout ' || generations.position || ' of source ' || generations.source_id
  || ': no sample is at that place'
from generations
where not exists (
  select 1
  from source_samples
  where source_samples.source_id = generations.source_id
    and source_samples.position = generations.position
)
union all
select 'the outcome of sample ' || outcomes.sample_hash || ' by task ' || outcomes.task_hash || ', attempt '
  || outcomes.attempt || ': it is ' || outcomes.status || ' and counts ' || outcomes.failures || ' failures'
from outcomes
where outcomes.failures > 0 and outcomes.status <> 'failed'
union all
select 'rollout ' || samples.hash || ': no facts are kept of it'
from samples
where samples.kind = 'rollout'
  and not exists (select 1 from rollout_facts where rollout_facts.sample_hash = samples.hash)
