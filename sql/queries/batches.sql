-- name: add_batch
-- A batch file that is written whole, and has not got its name yet.
-- :file path   :file_hash SHA-256 in hex   :size_bytes   :requests lines
insert into batches (run_id, task_hash, model, file, file_hash, size_bytes, requests)
values (:run_id, :task_hash, :model, :file, :file_hash, :size_bytes, :requests)

-- name: add_batch_result
-- A result was read.
-- :result_hash SHA-256   :try null for an error   :reason null for an answer
insert into batch_results (result_hash, handed_out_id, result_id, try, reason, run_id, read_at)
values (:result_hash, :handed_out_id, :result_id, :try, :reason, :run_id, :read_at)

-- name: add_handed_out_sample
-- One more sample that a request in a batch file asks about. :handed_out_id   :task_hash   :sample_hash
insert into handed_out_samples (handed_out_id, task_hash, sample_hash)
values (:handed_out_id, :task_hash, :sample_hash)
on conflict (sample_hash, task_hash, handed_out_id) do nothing

-- name: add_handing
-- One more request for the batch file that is being written.
-- :request_hash, :attempt, :custom_id, :request   :tokens, :pusd its worst case, null without a budget
insert into temp.handing (request_hash, attempt, custom_id, request, tokens, pusd)
values (:request_hash, :attempt, :custom_id, :request, :tokens, :pusd)

-- name: add_handing_sample
-- One more sample that a request of that file asks about. :request_hash, :attempt, :sample_hash
insert into temp.handing_samples (request_hash, attempt, sample_hash)
values (:request_hash, :attempt, :sample_hash)

-- name: any_handed_out
-- 1 if a request is pending in a batch file, else 0.
select exists (select 1 from handed_out where handed_out.ending is null)

-- name: batches_by_id
-- Every batch file with what became of its requests. :id of one, null for all   :is_own 1: none of another store
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
where (:id is null or batches.id = :id)
  and (not :is_own or runs.origin is null)
group by batches.id
order by batches.id

-- name: batches_without_rollouts
-- Batch files of `synth` whose answers have not all become rollouts, with the options of the run that wrote them.
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

-- name: copy_price
-- Gives a run that reads answers the price of the run that handed their requests out.
-- :run_id that reads   :from_run_id that handed out
insert into prices (run_id, model, input_usd, cached_input_usd, output_usd, below_prompt_tokens, source)
select
  :run_id,
  prices.model,
  prices.input_usd,
  prices.cached_input_usd,
  prices.output_usd,
  prices.below_prompt_tokens,
  prices.source
from prices
where prices.run_id = :from_run_id
on conflict (run_id, model) do nothing

-- name: count_waiting_at_service
-- How many requests of selected samples are pending in files that a service was asked to begin. :task_hash
select count(distinct handed_out.id)
from temp.waiting
join handed_out_samples
  on handed_out_samples.sample_hash = waiting.sample_hash
  and handed_out_samples.task_hash = :task_hash
join handed_out
  on handed_out.id = handed_out_samples.handed_out_id
  and handed_out.attempt = waiting.attempt
  and handed_out.ending is null
join batches on batches.id = handed_out.batch_id
where batches.create_began_at is not null

-- name: drop_handing
-- Forgets a batch file that was written, or given up.
drop table if exists temp.handing

-- name: drop_handing_samples
-- Forgets a batch file that was written, or given up.
drop table if exists temp.handing_samples

-- name: drop_reservations_taken_back
-- Drops the reservations of requests that were released from files that no service was given.
delete from reservations
where reservations.try is null
  and exists (
    select 1
    from handed_out
    join batches on batches.id = handed_out.batch_id
    where handed_out.request_hash = reservations.request_hash
      and handed_out.attempt = reservations.attempt
      and handed_out.ending = 'released'
      and batches.run_id = reservations.run_id
      and batches.create_began_at is null
  )

-- name: end_handed_out
-- What became of a request in a batch file. :id   :ending   :ended_at
update handed_out
set
  ending = :ending,
  ended_at = :ended_at,
  request = iif(:ending = 'answered', null, request)
where id = :id

-- name: handing_requests
-- The requests of the batch file that is being written.
select handing.request_hash, handing.attempt
from temp.handing
order by handing.line

-- name: handing_samples_table
-- The samples that they ask about.
create temp table handing_samples (
  request_hash text not null,
  attempt integer not null,
  sample_hash text not null
) strict

-- name: handing_table
-- The requests of the batch file that is being written.
create temp table handing (
  line integer primary key,
  request_hash text not null,
  attempt integer not null,
  custom_id text not null,
  request text not null,
  tokens integer,  -- at most, if a budget reserves it; null without one, as the next
  pusd integer,  -- picodollars at most
  unique (request_hash, attempt)
) strict

-- name: handing_worst_cases
-- The most that each request of the batch file that is being written can use, if a budget reserves it.
select
  handing.request_hash,
  handing.attempt,
  handing.tokens,
  handing.pusd
from temp.handing
where handing.tokens is not null
order by handing.line

-- name: is_handed_out
-- A request that is pending in a batch file, and whether a service was asked to begin that file;
-- no row if it is in none. :request_hash, :attempt
select
  handed_out.id,
  handed_out.batch_id,
  batches.create_began_at is not null as is_at_service
from handed_out
join batches on batches.id = handed_out.batch_id
where handed_out.request_hash = :request_hash
  and handed_out.attempt = :attempt
  and handed_out.ending is null

-- name: is_in_handing
-- Whether the batch file that is being written has a request: a row, or none. :request_hash, :attempt
select 1
from temp.handing
where handing.request_hash = :request_hash
  and handing.attempt = :attempt

-- name: is_known_result
-- Whether a result was read before: a row, or none. :result_hash
select 1
from batch_results
where batch_results.result_hash = :result_hash

-- name: keep_handed_out
-- Records the requests of a batch file as handed out. :batch_id
insert into handed_out (batch_id, request_hash, attempt, custom_id, request)
select :batch_id, handing.request_hash, handing.attempt, handing.custom_id, handing.request
from temp.handing
order by handing.line

-- name: keep_handed_out_samples
-- Records the samples that they ask about. :task_hash
insert into handed_out_samples (handed_out_id, task_hash, sample_hash)
select handed_out.id, :task_hash, handing_samples.sample_hash
from temp.handing_samples
join handed_out
  on handed_out.request_hash = handing_samples.request_hash
  and handed_out.attempt = handing_samples.attempt
  and handed_out.ending is null
where true
on conflict (sample_hash, task_hash, handed_out_id) do nothing

-- name: newest_handed_out
-- The batch request that a result is about: that of its batch, else the pending one, else the newest.
-- :request_hash, :attempt   :batch_id the batch that brought it, null if that is not known
select
  handed_out.id,
  handed_out.batch_id,
  batches.task_hash,
  batches.run_id,
  handed_out.ending,
  coalesce(
    handed_out.request,
    (
      select answers.request
      from answers
      where answers.request_hash = handed_out.request_hash and answers.attempt = handed_out.attempt
      limit 1
    )
  ) as request
from handed_out
join batches on batches.id = handed_out.batch_id
where handed_out.request_hash = :request_hash
  and handed_out.attempt = :attempt
order by handed_out.batch_id is :batch_id desc, handed_out.ending is null desc, handed_out.id desc
limit 1

-- name: publish_batch
-- A batch file got its name. :id   :written_at
update batches
set written_at = :written_at
where id = :id

-- name: reserved_for_file
-- What is reserved for a request that is pending in a file which no service was given: its release frees that.
-- :request_hash, :attempt
select
  reservations.tokens,
  reservations.cost_usd
from handed_out
join batches on batches.id = handed_out.batch_id
join reservations
  on reservations.run_id = batches.run_id
  and reservations.request_hash = handed_out.request_hash
  and reservations.attempt = handed_out.attempt
where handed_out.request_hash = :request_hash
  and handed_out.attempt = :attempt
  and handed_out.ending is null
  and batches.create_began_at is null
  and reservations.try is null
order by reservations.id
limit 1

-- name: samples_of_request
-- The samples that a request asks about, with the tasks that ask and what they concluded so far
-- (null: nothing). :request_hash, :attempt
select distinct
  handed_out_samples.task_hash,
  handed_out_samples.sample_hash,
  outcomes.status
from handed_out
join handed_out_samples on handed_out_samples.handed_out_id = handed_out.id
left join outcomes
  on outcomes.task_hash = handed_out_samples.task_hash
  and outcomes.sample_hash = handed_out_samples.sample_hash
  and outcomes.attempt = handed_out.attempt
where handed_out.request_hash = :request_hash
  and handed_out.attempt = :attempt
order by handed_out_samples.task_hash, handed_out_samples.sample_hash

-- name: set_batch_create_began
-- The service is about to be asked to begin, which it is not if a request of the file was released or answered;
-- or (null) has refused. :id   :create_began_at
update batches
set create_began_at = :create_began_at
where id = :id
  and (
    :create_began_at is null
    or not exists (
      select 1
      from handed_out
      where handed_out.batch_id = :id and handed_out.ending is not null
    )
  )

-- name: set_batch_fetched
-- All that the service has of a batch was read. :id   :fetched_at
update batches
set fetched_at = :fetched_at
where id = :id

-- name: set_batch_input_file
-- The service has the file. :id   :input_file_id
update batches
set input_file_id = :input_file_id
where id = :id

-- name: set_batch_service
-- Which service a batch file is about to be submitted to. :id   :base_url, :api_key_var, :headers without secrets
update batches
set base_url = :base_url, api_key_var = :api_key_var, headers = :headers
where id = :id

-- name: set_batch_state
-- What the service says of a batch. :id   :server_id, :server_status, :output_file_id, :error_file_id   :checked_at
update batches
set
  server_id = :server_id,
  server_status = :server_status,
  output_file_id = :output_file_id,
  error_file_id = :error_file_id,
  checked_at = :checked_at
where id = :id

-- name: set_run_task
-- Which task a run asks about. :run_id   :task_hash
update runs
set task_hash = :task_hash
where id = :run_id

-- name: still_out_of_batch
-- The pending requests of a batch file. :id of the batch   :after id of a request in it   :limit
select
  handed_out.id,
  handed_out.request_hash,
  handed_out.attempt
from handed_out
where handed_out.batch_id = :id
  and handed_out.ending is null
  and handed_out.id > :after
order by handed_out.id
limit :limit

-- name: take_back_handing
-- Takes back from older batch files the requests that the new one holds. :ended_at
update handed_out
set ending = 'released', ended_at = :ended_at
where handed_out.ending is null
  and exists (
    select 1
    from temp.handing
    where handing.request_hash = handed_out.request_hash
      and handing.attempt = handed_out.attempt
  )

-- name: take_back_waiting
-- Takes back from batch files the requests of samples that wait. :task_hash   :ended_at
update handed_out
set ending = 'released', ended_at = :ended_at
where handed_out.ending is null
  and handed_out.id in (
    select handed_out_samples.handed_out_id
    from temp.waiting
    join handed_out_samples
      on handed_out_samples.sample_hash = waiting.sample_hash
      and handed_out_samples.task_hash = :task_hash
    where handed_out.attempt = waiting.attempt
  )

-- name: task_reader
-- How a task is called and how its answers are read. :hash
select
  tasks.name,
  tasks.reader
from tasks
where tasks.hash = :hash

-- name: unpublished_batches
-- Batch files of this store that are recorded and have not got their name: a command was stopped in between.
select
  batches.id,
  batches.file,
  batches.size_bytes
from batches
join runs on runs.id = batches.run_id and runs.origin is null
where batches.written_at is null
order by batches.id
