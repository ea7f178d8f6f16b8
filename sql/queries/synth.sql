-- name: add_batch_request
-- One more request of the batch. :custom_id   :body JSON
insert into temp.batch_requests (custom_id, body)
values (:custom_id, :body)

-- name: add_scored
-- Notes a reward, unless its rollout has one in the same file; says what is noted. :sample_hash, :reward, :line
insert into temp.scored (sample_hash, reward, line)
values (:sample_hash, :reward, :line)
on conflict (sample_hash) do update
set line = scored.line
returning reward, line

-- name: add_unstored
-- One more prompt of a file, unless the same stood there before. :sample_hash, :row
insert into temp.unstored (sample_hash, row)
values (:sample_hash, :row)
on conflict (sample_hash) do nothing

-- name: batch_request_bodies
-- The requests with an id, in the order of the input files. :custom_id
select batch_requests.body
from temp.batch_requests
where batch_requests.custom_id = :custom_id
order by batch_requests.id

-- name: batch_requests_table
-- The requests of the batch that is being recorded; temporary.
create temp table if not exists batch_requests (
  id integer primary key,  -- in the order of the input files
  custom_id text not null,
  body text not null,  -- JSON
  unique (custom_id, id)
) strict

-- name: choose_unstored
-- A dry run is about all prompts of its file, in their order.
insert into temp.chosen (sample_hash)
select unstored.sample_hash
from temp.unstored
order by unstored.position

-- name: clear_batch_requests
-- Forgets the requests of the last batch.
delete from temp.batch_requests

-- name: code_of_sample
-- The identity of a sample's PyTorch source; null without source. :sample_hash
select samples.code_hash
from samples indexed by samples_by_hash
where samples.hash = :sample_hash

-- name: drop_examples
-- Forgets what `examples_table` holds.
drop table if exists temp.examples

-- name: drop_scored
-- Forgets what `scored_table` holds.
drop table if exists temp.scored

-- name: drop_unstored
-- Forgets the prompts of the dry run before.
drop table if exists temp.unstored

-- name: examples_table
-- Rollouts by the example that they are an attempt at.
create temp table examples (
  example text not null,  -- example_id as text; integral numbers without a fraction
  sample_hash text not null,  -- the rollout
  source_id integer not null,  -- a source that holds it
  position integer not null,  -- its first position there
  attempt integer,  -- which attempt, if it was generated here and decided it; else null
  primary key (example, sample_hash, source_id, position)
) strict, without rowid

-- name: fill_examples
-- Every position of every rollout that names its example. An attempt is that of the answer that decided it:
-- one that was asked again and replaced another answer does not count.
insert into temp.examples (example, sample_hash, source_id, position, attempt)
select
  case
    when typeof(rollout_facts.example_id) = 'real' and rollout_facts.example_id = cast(rollout_facts.example_id as integer)
      then cast(cast(rollout_facts.example_id as integer) as text)
    else cast(rollout_facts.example_id as text)
  end,
  rollout_facts.sample_hash,
  source_samples.source_id,
  source_samples.position,
  outcomes.attempt
from rollout_facts
join source_samples on source_samples.sample_hash = rollout_facts.sample_hash
left join generations
  on generations.source_id = source_samples.source_id and generations.position = source_samples.position
left join outcomes
  on outcomes.task_hash = generations.task_hash
  and outcomes.sample_hash = generations.problem_hash
  and outcomes.attempt = generations.attempt
  and outcomes.request_hash = generations.request_hash
  and outcomes.try = generations.try
where rollout_facts.example_id is not null

-- name: has_repeated_requests
-- Whether several requests of the batch share an id, 0 or 1.
select exists (
  select 1
  from temp.batch_requests
  group by batch_requests.custom_id
  having count(*) > 1
)

-- name: keep_scores
-- Stores the rewards that differ from the newest known. :scored_at UTC, ISO 8601   :run_id
insert into scores (sample_hash, reward, scored_at, run_id)
select
  scored.sample_hash,
  scored.reward,
  :scored_at,
  :run_id
from temp.scored
join samples indexed by samples_by_hash on samples.hash = scored.sample_hash
where coalesce(
    (select scores.reward from scores where scores.sample_hash = scored.sample_hash order by scores.id desc limit 1),
    samples.reward
  ) is not scored.reward
order by scored.line, scored.sample_hash

-- name: kind_of_sample
-- Whether a sample is a module or a rollout. :sample_hash
select samples.kind
from samples
where samples.hash = :sample_hash

-- name: rollouts_of_example
-- The different rollouts that an example may mean, each with a position; three at most, to name them.
-- :example   :source name of one source, null for any   :attempt number, null for any
select
  examples.sample_hash,
  sources.name as source,
  min(examples.position) as position
from temp.examples
join sources on sources.id = examples.source_id
where examples.example = :example
  and (:source is null or sources.name = :source)
  and (:attempt is null or examples.attempt = :attempt)
group by examples.sample_hash
order by sources.id, min(examples.position), examples.sample_hash
limit 3

-- name: rollouts_of_source
-- How many positions a source of rollouts has, different rollouts in them, and positions of those that were cut.
-- :name of the source
select
  count(source_samples.position) as places,
  count(distinct source_samples.sample_hash) as different,
  coalesce(sum(rollout_facts.is_truncated), 0) as cut
from sources
join source_samples on source_samples.source_id = sources.id
left join rollout_facts on rollout_facts.sample_hash = source_samples.sample_hash
where sources.name = :name
group by sources.id

-- name: said_by_rollout
-- The model and the environment that a rollout itself names; null if it names none.
-- :hash  the sample
select
  rollout_facts.model,
  rollout_facts.environment
from rollout_facts
where rollout_facts.sample_hash = :hash

-- name: scored_table
-- Rewards that a file gives.
create temp table scored (
  sample_hash text primary key,  -- the rollout
  reward real not null,  -- as the file says
  line integer not null  -- where it says so
) strict, without rowid

-- name: source_uri
-- What a source is read from. :name
select sources.uri
from sources
where sources.name = :name

-- name: synthetic_prompt
-- The prompt that the view `synthetic` has for a module. :sample_hash
select synthetic.prompt
from synthetic
where synthetic.sample_hash = :sample_hash

-- name: unrewarded_rollouts
-- How many rollouts have no reward, neither their own nor a later one.
select count(*) as rollouts
from samples indexed by samples_by_reward
where samples.kind = 'rollout'
  and samples.reward is null
  and not exists (select 1 from scores where scores.sample_hash = samples.hash)

-- name: unstored_rows
-- The next prompts of an unstored file that wait; as `waiting_rows`. :after position   :limit number of them
select
  waiting.position,
  waiting.sample_hash,
  waiting.why,
  null as reward,
  cast(unstored.row as blob) as row,
  waiting.attempt
from temp.waiting
join temp.unstored on unstored.sample_hash = waiting.sample_hash
where waiting.position > :after
order by waiting.position
limit :limit

-- name: unstored_table
-- The prompts of a file, as a dry run reads them: they are not stored.
create temp table unstored (
  position integer primary key,  -- in the order of the file
  sample_hash text not null unique,
  row text not null
) strict
