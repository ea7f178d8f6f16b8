-- name: add_generations
-- Records the positions in a source of answers that became rollouts, of each answer that has none yet.
-- :source_id   :task_hash   :rollouts JSON list of [position, problem_hash, attempt, request_hash, try];
-- a null try is the newest answer that is no fault
insert into generations (source_id, position, task_hash, problem_hash, attempt, request_hash, try)
select
  :source_id,
  rollout.value ->> 0,
  :task_hash,
  rollout.value ->> 1,
  rollout.value ->> 2,
  rollout.value ->> 3,
  coalesce(
    rollout.value ->> 4,
    (
      select max(answers.try)
      from answers
      where answers.request_hash = rollout.value ->> 3
        and answers.attempt = rollout.value ->> 2
        and answers.fault is null
    )
  )
from json_each(:rollouts) as rollout
where true
on conflict (task_hash, problem_hash, attempt, request_hash, try) do nothing

-- name: add_incoming_rejection
-- A row of the running ingest is rejected. :position from 0   :location FILE:LINE   :reason   :content_hash
insert into incoming_rejections (position, location, reason, content_hash)
values (:position, :location, :reason, :content_hash)

-- name: add_incoming_sample
-- A row of the running ingest is a sample.
-- :position from 0   :sample_hash   :line_hash SHA-256 of its line, null for a line seen before
insert into incoming_samples (position, sample_hash, line_hash)
values (:position, :sample_hash, :line_hash)

-- name: add_memberships
-- Puts samples at positions of a source. :source_id   :places JSON list of [position, sample_hash]
insert into source_samples (source_id, position, sample_hash)
select
  :source_id,
  place.value ->> 0,
  place.value ->> 1
from json_each(:places) as place

-- name: add_original
-- From which line a sample came whose row is not that line; of several the first.
-- :sample_hash   :position of the rollout in the line, from 0   :line_hash SHA-256 of the line
insert into originals (sample_hash, position, line_hash)
values (:sample_hash, :position, :line_hash)
on conflict (sample_hash) do nothing

-- name: add_original_line
-- A line of a run's file, unless it is there. :hash SHA-256 of the line   :line
insert into original_lines (hash, line)
values (:hash, :line)
on conflict (hash) do nothing

-- name: add_other_reasoning
-- Reasoning of a rollout that its messages lack, unless it is stored. :sample_hash   :reasoning
insert into other_reasoning (sample_hash, reasoning)
values (:sample_hash, :reasoning)
on conflict (sample_hash) do nothing

-- name: add_rollout_facts
-- The narrow facts of a rollout, unless they are there. Columns as in `rollout_facts`.
insert into rollout_facts (
  sample_hash,
  is_empty,
  example_id,
  model,
  environment,
  finish_reason,
  stop_condition,
  is_truncated,
  error,
  prompt_tokens,
  cached_tokens,
  completion_tokens,
  reasoning_tokens,
  generation_ms,
  scoring_ms,
  total_ms,
  rewards,
  metrics,
  error_text,
  has_labels,
  other_completion,
  earlier_errors,
  unscored,
  reading,
  completion_path
)
values (
  :sample_hash,
  :is_empty,
  :example_id,
  :model,
  :environment,
  :finish_reason,
  :stop_condition,
  :is_truncated,
  :error,
  :prompt_tokens,
  :cached_tokens,
  :completion_tokens,
  :reasoning_tokens,
  :generation_ms,
  :scoring_ms,
  :total_ms,
  :rewards,
  :metrics,
  :error_text,
  :has_labels,
  :other_completion,
  :earlier_errors,
  :unscored,
  :reading,
  :completion_path
)
on conflict (sample_hash) do nothing

-- name: add_sample
-- Stores a sample, unless it is there. Columns as in `samples`; :row as UTF-8.
insert into samples (hash, kind, module_name, code_hash, code_point, name_point, reward, nonfinite, row)
values (:hash, :kind, :module_name, :code_hash, :code_point, :name_point, :reward, :nonfinite, cast(:row as text))
on conflict (hash) do nothing

-- name: add_source
-- Makes a source, unless there is one of that name. Columns as in `sources`.
insert into sources (name, uri, kind, revision, split, features, model, environment, run, ingested_at, field_map)
values (:name, :uri, :kind, :revision, :split, :features, :model, :environment, :run, :ingested_at, :field_map)
on conflict (name) do nothing

-- name: clear_incoming_rejections
-- Forgets the rejected rows of an ingest before.
delete from incoming_rejections

-- name: clear_incoming_samples
-- Forgets the samples of an ingest before.
delete from incoming_samples

-- name: count_other_samples
-- count_other_samples
-- How many samples of a source did not come in again at any position. :source_id
select count(distinct source_samples.sample_hash)
from source_samples
where source_samples.source_id = :source_id
  and not exists (
    select 1
    from incoming_samples
    where incoming_samples.position = source_samples.position
      and incoming_samples.sample_hash = source_samples.sample_hash
  )
  and source_samples.sample_hash not in (select incoming_samples.sample_hash from incoming_samples)

-- name: describe_source
-- What is known of a source after its memberships were written. Columns as in `sources`;
-- what a run once said of itself stays if nothing newer is said.
update sources
set
  uri = :uri,
  kind = iif(is_mixed, kind, :kind),
  revision = :revision,
  split = :split,
  features = :features,
  model = coalesce(:model, model),
  environment = coalesce(:environment, environment),
  run = coalesce(:run, run),
  field_map = iif(:kind = 'run', field_map, :field_map),
  ingested_at = :ingested_at
where name = :name

-- name: drop_other_memberships
-- Takes from a source the samples that did not come in again at the same position. :source_id
delete from source_samples
where source_id = :source_id
  and not exists (
    select 1
    from incoming_samples
    where incoming_samples.position = source_samples.position
      and incoming_samples.sample_hash = source_samples.sample_hash
  )

-- name: drop_other_rejections
-- Takes from a source the rejected rows that did not come in again just so. :source_id
delete from rejected_rows
where source_id = :source_id
  and not exists (
    select 1
    from incoming_rejections
    where incoming_rejections.position = rejected_rows.position
      and incoming_rejections.location = rejected_rows.location
      and incoming_rejections.reason = rejected_rows.reason
      and (rejected_rows.content_hash is null or rejected_rows.content_hash = incoming_rejections.content_hash)
  )

-- name: first_position_for_incoming
-- Where the rows of the running ingest go when they are added to a source: 0 if each can have its
-- own position, else the position after the last. :source_id
select
  case
    when exists (
      select 1
      from incoming_samples
      join source_samples
        on source_samples.source_id = :source_id and source_samples.position = incoming_samples.position
      where source_samples.sample_hash <> incoming_samples.sample_hash
    ) or exists (
      select 1
      from incoming_samples
      join rejected_rows
        on rejected_rows.source_id = :source_id and rejected_rows.position = incoming_samples.position
    ) or exists (
      select 1
      from incoming_rejections
      join source_samples
        on source_samples.source_id = :source_id and source_samples.position = incoming_rejections.position
    ) or exists (
      select 1
      from incoming_rejections
      join rejected_rows
        on rejected_rows.source_id = :source_id and rejected_rows.position = incoming_rejections.position
      where rejected_rows.reason <> incoming_rejections.reason
        or rejected_rows.location <> incoming_rejections.location
        or rejected_rows.content_hash <> incoming_rejections.content_hash
    )
    then 1 + max(
      coalesce((select max(position) from source_samples where source_id = :source_id), -1),
      coalesce((select max(position) from rejected_rows where source_id = :source_id), -1)
    )
    else 0
  end as first

-- name: free_position
-- The position after the last of a source. :source_id
select coalesce(max(source_samples.position) + 1, 0) as position
from source_samples
where source_samples.source_id = :source_id

-- name: has_known_lines
-- Whether any line was read before.
select exists (select 1 from known_lines)

-- name: incoming_rejections_table
-- The rejected rows of the ingest that is running; temporary.
create temp table if not exists incoming_rejections (
  position integer primary key,  -- in the source, from 0
  location text not null,  -- FILE:LINE
  reason text not null,
  content_hash blob  -- SHA-256 of the row as it was read; null for the fault of a file
) strict

-- name: incoming_samples_table
-- The samples of the ingest that is running, in order; temporary.
create temp table if not exists incoming_samples (
  position integer primary key,  -- in the source, from 0, rejected rows counted
  sample_hash text not null,
  line_hash blob  -- SHA-256 of its line; null for a line seen before
) strict

-- name: is_rejected
-- Whether a row of this content was rejected before. :content_hash SHA-256, null for none
select exists (
  select 1
  from rejected_rows
  where rejected_rows.content_hash = :content_hash
)

-- name: keep_incoming_lines
-- Remembers which samples the lines of the running ingest are. Once, at the end and in the order of the table:
-- with each batch, nearly every page of a large one would be written again.
insert into known_lines (line_hash, sample_hash)
select incoming_samples.line_hash, incoming_samples.sample_hash
from incoming_samples
where incoming_samples.line_hash is not null
order by incoming_samples.line_hash
on conflict (line_hash) do nothing

-- name: keep_incoming_rejections
-- Gives the rejected rows of the running ingest to a source.
-- Those of before content was kept get theirs. :source_id   :first position of the first row   :run_id the run that rejected them
insert into rejected_rows (source_id, position, location, reason, run_id, content_hash)
select
  :source_id,
  :first + incoming_rejections.position,
  incoming_rejections.location,
  incoming_rejections.reason,
  :run_id,
  incoming_rejections.content_hash
from incoming_rejections
where :first = 0
  or not exists (
    select 1
    from rejected_rows
    where rejected_rows.source_id = :source_id
      and rejected_rows.location = incoming_rejections.location
      and rejected_rows.reason = incoming_rejections.reason
      and coalesce(rejected_rows.content_hash = incoming_rejections.content_hash, 1)
  )
order by incoming_rejections.position
on conflict (source_id, position) do update
set content_hash = excluded.content_hash
where rejected_rows.content_hash is null

-- name: keep_incoming_samples
-- Gives the samples of the running ingest to a source. Those that go after its last position are only those
-- that it lacks. :source_id   :first position of the first row
insert into source_samples (source_id, position, sample_hash)
select :source_id, :first + incoming_samples.position, incoming_samples.sample_hash
from incoming_samples
where :first = 0
  or not exists (
    select 1
    from source_samples
    where source_samples.sample_hash = incoming_samples.sample_hash
      and source_samples.source_id = :source_id
      and source_samples.position < :first
  )
order by incoming_samples.position
on conflict (source_id, position) do nothing

-- name: mix_source
-- A source has samples from `ingest` and from `synth record` from now on; it stays what it was called at first.
-- :source_id
update sources
set is_mixed = 1
where id = :source_id

-- name: samples_of_lines
-- Which samples lines are, by the number of the line from 0; no row for a line not seen before.
-- :line_hashes their SHA-256s, one behind the other, best in ascending order   :count how many
-- A line of which `synth record` built its rollouts is no row by itself.
-- The index holds the kind: the wide rows are not touched.
with recursive lines (number) as (
  values (0)
  union all
  select lines.number + 1
  from lines
  where lines.number + 1 < :count
)
select lines.number, known_lines.sample_hash, samples.kind
from lines
cross join known_lines on known_lines.line_hash = substr(:line_hashes, 1 + 32 * lines.number, 32)
cross join samples indexed by samples_by_hash on samples.hash = known_lines.sample_hash
where not exists (
    select 1
    from original_lines
    where original_lines.hash = known_lines.line_hash
  )

-- name: source_doors
-- Who gave a source its samples. :source_id   :kind of the origin that gives it more
select
  exists (
    select 1
    from source_samples
    where source_samples.source_id = sources.id
  ) as had_samples,
  sources.is_mixed or (sources.kind = 'run') <> (:kind = 'run') as is_of_other_door
from sources
where sources.id = :source_id

-- name: source_id
-- The id of a source. :name
select sources.id
from sources
where sources.name = :name

-- name: touch_source
-- A source got samples. :source_id   :ingested_at UTC, ISO 8601
update sources
set ingested_at = :ingested_at
where id = :source_id
