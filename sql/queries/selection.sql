-- name: add_chosen
-- One more sample that a run is about. :sample_hash
insert into temp.chosen (sample_hash)
values (:sample_hash)

-- name: add_seen
-- Notes an attempt at a request. :request_hash, :attempt
insert into temp.seen (request_hash, attempt)
values (:request_hash, :attempt)
on conflict (request_hash, attempt) do nothing

-- name: chosen_by_status
-- How many of the chosen samples have each status of a task. :task_hash   :attempts wanted about each
select
  outcomes.status,
  count(*) as samples
from temp.chosen
join outcomes
  on outcomes.sample_hash = chosen.sample_hash
  and outcomes.task_hash = :task_hash
  and outcomes.attempt < :attempts
group by outcomes.status
order by outcomes.status

-- name: chosen_table
-- The samples that a run is about, in source order.
create temp table chosen (
  position integer primary key,  -- from 1, in the order of asking
  sample_hash text not null unique
) strict

-- name: count_chosen
-- How many samples a run is about.
select count(*)
from temp.chosen

-- name: cut_waiting
-- Leaves only the first samples that wait. :limit number of samples
delete from temp.waiting
where position not in (
  select waiting.position
  from temp.waiting
  order by waiting.position
  limit :limit
)

-- name: drop_chosen
-- Forgets the samples of a run.
drop table if exists temp.chosen

-- name: drop_empty_rollouts
-- Leaves out the chosen rollouts without an answer: there is nothing to judge.
delete from temp.chosen
where exists (
  select 1
  from rollout_facts
  where rollout_facts.sample_hash = chosen.sample_hash and rollout_facts.is_empty = 1
)

-- name: drop_seen
-- Forgets the requests that a dry run has met.
drop table if exists temp.seen

-- name: drop_waiting
-- Forgets what a run asks.
drop table if exists temp.waiting

-- name: fill_waiting
-- Of the chosen samples those without an outcome, those that failed, and those whose status is asked again;
-- each as often as answers are wanted about it, all of one sample together.
-- :task_hash   :attempts wanted about each   :statuses JSON list of statuses to ask again ("failed" among them)
-- :wants_new 0 or 1   :wants_rollouts 0, or 1 if an answer that has not become a rollout counts as new
-- :before_run leaves out what an answer of that run or a later one decided; null leaves out nothing
insert into temp.waiting (position, sample_hash, attempt, why)
with recursive wanted (attempt) as (
  select 0
  union all
  select wanted.attempt + 1
  from wanted
  where wanted.attempt + 1 < :attempts
)
select
  chosen.position * :attempts + wanted.attempt,
  chosen.sample_hash,
  wanted.attempt,
  case
    when outcomes.status is null then 'new'
    when outcomes.status in (select value from json_each(:statuses)) then outcomes.status
    else 'answered'
  end
from temp.chosen
cross join wanted
left join outcomes
  on outcomes.sample_hash = chosen.sample_hash
  and outcomes.task_hash = :task_hash
  and outcomes.attempt = wanted.attempt
where (
    (outcomes.status is null and :wants_new)
    or outcomes.status in (select value from json_each(:statuses))
    or (
      :wants_new
      and :wants_rollouts
      and outcomes.status is not null
      and not exists (
        select 1
        from generations
        where generations.task_hash = :task_hash
          and generations.problem_hash = chosen.sample_hash
          and generations.attempt = wanted.attempt
      )
    )
  )
  and (
    :before_run is null
    or not exists (
      select 1
      from answers
      where answers.request_hash = outcomes.request_hash
        and answers.attempt = outcomes.attempt
        and answers.try = outcomes.try
        and answers.run_id >= :before_run
    )
  )
order by chosen.position, wanted.attempt

-- name: fill_waiting_answered
-- Samples whose request in a batch file was answered, and whose answer has not become a rollout.
-- :task_hash   :batch_id
insert into temp.waiting (position, sample_hash, attempt, why)
select
  row_number() over (order by handed_out.id, handed_out_samples.sample_hash),
  handed_out_samples.sample_hash,
  handed_out.attempt,
  'answered'
from handed_out
join handed_out_samples
  on handed_out_samples.handed_out_id = handed_out.id
  and handed_out_samples.task_hash = :task_hash
where handed_out.batch_id = :batch_id
  and handed_out.ending = 'answered'
  and not exists (
    select 1
    from generations
    where generations.task_hash = :task_hash
      and generations.problem_hash = handed_out_samples.sample_hash
      and generations.attempt = handed_out.attempt
      and generations.request_hash = handed_out.request_hash
  )

-- name: keep_sources
-- Leaves only the chosen samples that belong to one of the sources. :source_ids JSON list of ids
delete from temp.chosen
where not exists (
  select 1
  from source_samples
  where source_samples.sample_hash = chosen.sample_hash
    and source_samples.source_id in (select value from json_each(:source_ids))
)

-- name: leave_handed_out
-- Removes from what is pending the samples whose request is pending in a batch file. :task_hash
delete from temp.waiting
where exists (
  select 1
  from handed_out_samples
  join handed_out on handed_out.id = handed_out_samples.handed_out_id
  where handed_out_samples.sample_hash = waiting.sample_hash
    and handed_out_samples.task_hash = :task_hash
    and handed_out.attempt = waiting.attempt
    and handed_out.ending is null
)

-- name: leave_parked
-- Removes from what is pending the samples that are parked. :task_hash   :parked_after runs in a row that failed
delete from temp.waiting
where waiting.why = 'failed'
  and exists (
    select 1
    from outcomes
    where outcomes.task_hash = :task_hash
      and outcomes.sample_hash = waiting.sample_hash
      and outcomes.attempt = waiting.attempt
      and outcomes.failures >= :parked_after
  )

-- name: seen_table
-- The requests that a dry run has met.
create temp table seen (
  request_hash text not null,  -- as in answers
  attempt integer not null,  -- as in answers
  primary key (request_hash, attempt)
) strict, without rowid

-- name: unused_tasks
-- Tasks by name of which none is in use, each with how its answers are read, and whether one of them has a label.
select
  tasks.name,
  tasks.reader,
  max(exists (select 1 from outcomes where outcomes.task_hash = tasks.hash and outcomes.status = 'ok')) as is_labelled
from tasks
where not exists (select 1 from tasks as used where used.name = tasks.name and used.in_use = 1)
group by tasks.name
order by tasks.name

-- name: waiting_by_why
-- How many samples wait, by why; `other_task` is the task of the same name that has an outcome for them,
-- the one in use before the newest. :task_hash, :name of the task
select
  waiting.why,
  (
    select tasks.hash
    from outcomes
    join tasks on tasks.hash = outcomes.task_hash
    where outcomes.sample_hash = waiting.sample_hash
      and outcomes.attempt = 0
      and tasks.name = :name
      and tasks.hash <> :task_hash
      and waiting.why = 'new'
    order by tasks.in_use desc, tasks.created_at desc, tasks.hash
    limit 1
  ) as other_task,
  count(*) as samples
from temp.waiting
group by waiting.why, other_task
order by waiting.why, other_task

-- name: waiting_rows
-- The next samples that wait, with their rows. :after position   :limit number of samples
select
  waiting.position,
  waiting.sample_hash,
  waiting.why,
  coalesce(
    (select scores.reward from scores where scores.sample_hash = samples.hash order by scores.id desc limit 1),
    samples.reward
  ) as reward,
  cast(samples.row as blob) as row,  -- bytes: UTF-8 is not decoded to be parsed
  waiting.attempt,
  field_maps.map as field_map
from temp.waiting
join samples on samples.hash = waiting.sample_hash
left join mapped_samples on mapped_samples.sample_hash = waiting.sample_hash
left join field_maps on field_maps.id = mapped_samples.field_map_id
where waiting.position > :after
order by waiting.position
limit :limit

-- name: waiting_table
-- Those of them that a run asks.
create temp table waiting (
  position integer primary key,
  sample_hash text not null,
  attempt integer not null,  -- the how-manieth answer wanted to the same request
  why text not null  -- new, or the status that is asked again
) strict
