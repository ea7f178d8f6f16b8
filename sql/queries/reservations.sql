-- name: add_price
-- Keeps the price that a run reckons with, in US dollars per million tokens.
insert into prices (run_id, model, input_usd, cached_input_usd, output_usd, below_prompt_tokens, source)
values (:run_id, :model, :input_usd, :cached_input_usd, :output_usd, :below_prompt_tokens, :source)
on conflict (run_id, model) do nothing

-- name: add_reservation
-- Reserves the most that one try can use: :tokens, :cost_usd in US dollars (null: the run knows no price).
insert into reservations (run_id, request_hash, attempt, model, tokens, cost_usd, reserved_at)
values (:run_id, :request_hash, :attempt, :model, :tokens, :cost_usd, :reserved_at)

-- name: drop_reservation
-- Drops a reservation: its answer reports its usage, or nothing was billed. :id
delete from reservations
where id = :id

-- name: drop_reservations_of_ended
-- Gives back what is still reserved for the requests of a batch of which nothing more will come. :batch_id
delete from reservations
where reservations.try is null
  and exists (
    select 1
    from batches
    join handed_out on handed_out.batch_id = batches.id
    where batches.id = :batch_id
      and batches.run_id = reservations.run_id
      and handed_out.request_hash = reservations.request_hash
      and handed_out.attempt = reservations.attempt
  )

-- name: keep_reservation
-- Records which answer without usage a reservation is for, so that it is counted once. :id   :try
update reservations
set try = :try
where id = :id

-- name: open_reservation
-- The oldest reservation of a request's attempt for which no answer came; no row if there is none.
-- :run_id   :request_hash   :attempt
select reservations.id
from reservations
where
  reservations.run_id = :run_id
  and reservations.request_hash = :request_hash
  and reservations.attempt = :attempt
  and reservations.try is null
order by reservations.id
limit 1

-- name: reserved_by_run
-- By run, the requests that were sent under a budget and that nothing is known of since: killed, cut off, timed out.
-- is_open: the run has no end: it runs, or was killed. Without what is pending in batch files. :task null: every task
select
  runs.id as run_id,
  runs.command as command,
  runs.task as task,
  runs.pid as pid,
  runs.status is null as is_open,
  count(*) as requests,
  sum(reservations.tokens) as tokens,
  sum(reservations.cost_usd) as cost_usd
from reservations
join runs on runs.id = reservations.run_id
where
  reservations.try is null
  and (:task is null or runs.task = :task)
  and not exists (
    select 1
    from handed_out
    join batches on batches.id = handed_out.batch_id
    where
      handed_out.request_hash = reservations.request_hash
      and handed_out.attempt = reservations.attempt
      and batches.run_id = reservations.run_id
  )
group by runs.id, runs.command, runs.task, runs.pid, runs.status
order by runs.id

-- name: spent_by_answers
-- What the answers to a task used so far, by model and by the run's own price, in whole picodollars (1e-12 US
-- dollars) and tokens, without answers that a reservation counts. told_pusd is what they report, computed_pusd what
-- tokens and price make beyond that. Answers whose run knew no price, or none for such a long prompt, are unpriced:
-- their tokens, for a price known now, and what they report. is_told: they report a cost; those of 0 are apart. :task
select
  told.model as model,
  told.cost_usd is not null as is_told,
  total(told.told_pusd) as told_pusd,
  total(case when not told.is_unpriced then max(0, told.tokens_pusd - told.told_pusd) end) as computed_pusd,
  coalesce(sum(case when told.is_unpriced then told.fresh_tokens end), 0) as unpriced_fresh_tokens,
  coalesce(sum(case when told.is_unpriced then told.cached_tokens end), 0) as unpriced_cached_tokens,
  coalesce(sum(case when told.is_unpriced then told.completion_tokens end), 0) as unpriced_completion_tokens,
  coalesce(max(case when told.is_unpriced then told.fresh_tokens + told.cached_tokens end), 0) as longest_unpriced,
  total(case when told.is_unpriced then told.told_pusd end) as unpriced_told_pusd,
  coalesce(sum(told.fresh_tokens + told.cached_tokens + told.completion_tokens), 0) as tokens
from (
  select
    counted.model as model,
    counted.cost_usd as cost_usd,
    round(coalesce(counted.cost_usd, 0) * 1e12) as told_pusd,
    counted.fresh_tokens as fresh_tokens,
    counted.cached_tokens as cached_tokens,
    counted.completion_tokens as completion_tokens,
    counted.fresh_tokens * round(prices.input_usd * 1e6)
      + counted.cached_tokens * round(prices.cached_input_usd * 1e6)
      + counted.completion_tokens * round(prices.output_usd * 1e6) as tokens_pusd,
    counted.fresh_tokens + counted.completion_tokens is not null
      and (
        prices.run_id is null
        or counted.fresh_tokens + counted.cached_tokens >= coalesce(prices.below_prompt_tokens, 9223372036854775807)
      ) as is_unpriced
  from (
    select
      answers.run_id as run_id,
      answers.request_hash as request_hash,
      answers.attempt as attempt,
      answers.try as try,
      answers.model as model,
      answers.cost_usd as cost_usd,
      answers.prompt_tokens - min(answers.prompt_tokens, coalesce(answers.cached_tokens, 0)) as fresh_tokens,
      min(answers.prompt_tokens, coalesce(answers.cached_tokens, 0)) as cached_tokens,
      answers.completion_tokens as completion_tokens
    from runs
    join answers on answers.run_id = runs.id
    where runs.task = :task
  ) as counted
  left join prices on prices.run_id = counted.run_id and prices.model = counted.model
  where
    not exists (
      select 1
      from reservations
      where
        reservations.request_hash = counted.request_hash
        and reservations.attempt = counted.attempt
        and reservations.try = counted.try
    )
) as told
group by told.model, told.cost_usd is not null, told.cost_usd > 0
order by told.model, told.cost_usd is not null, told.cost_usd > 0

-- name: spent_handed_out
-- Requests of a task's name that are pending in a batch file, or that a service was asked to answer before they were
-- released and has not, as far as no reservation counts them: the model and the request as asked. :task
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

-- name: spent_reserved
-- What counts in full for a task, by model: requests that were sent and reported no usage. Tokens, whole picodollars
-- (1e-12 US dollars), and the tokens of those that were reserved without a price. :task
select
  reservations.model as model,
  count(*) as reservations,
  sum(reservations.tokens) as tokens,
  total(round(reservations.cost_usd * 1e12)) as pusd,
  coalesce(sum(case when reservations.cost_usd is null then reservations.tokens end), 0) as unpriced_tokens
from runs
join reservations on reservations.run_id = runs.id
where runs.task = :task
group by reservations.model
order by reservations.model

-- name: spent_untold
-- Answers to a task that report no cost, or no tokens, and that no reservation counts: the request, to compute the
-- most that it may have used. lacks_cost: neither cost nor tokens. The offline model uses none. :task
select
  answers.model as model,
  answers.cost_usd is null as lacks_cost,
  answers.request as request
from runs
join answers on answers.run_id = runs.id
where
  runs.task = :task
  and answers.prompt_tokens + answers.completion_tokens is null
  and answers.host <> 'offline'
  and not exists (
    select 1
    from reservations
    where
      reservations.request_hash = answers.request_hash
      and reservations.attempt = answers.attempt
      and reservations.try = answers.try
  )
