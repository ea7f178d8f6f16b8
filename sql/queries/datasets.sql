-- name: add_wanted
-- Adds a sample that satisfies the user's condition. :sample_hash
insert into temp.wanted (sample_hash)
values (:sample_hash)

-- name: dataset_notes
-- The numbers of a dataset's rows that are in no source any more; that repeat in a source, where one counts; with
-- numbers that were NaN or infinite and are null; with a reward that came later and differs from the row's own.
-- :source_ids JSON list, null for the whole store
select
  (
    select count(*)
    from temp.dataset_rows
    join temp.eligible on eligible.sample_hash = dataset_rows.sample_hash
    where eligible.place = 9223372036854775807
  ) as sourceless,
  (
    select coalesce(sum(held.places - 1), 0)
    from (
      select count(*) as places
      from temp.dataset_rows
      join source_samples on source_samples.sample_hash = dataset_rows.sample_hash
      where :source_ids is null or source_samples.source_id in (select value from json_each(:source_ids))
      group by source_samples.sample_hash, source_samples.source_id
    ) as held
  ) as repeats,
  (
    select count(*)
    from temp.dataset_rows
    join samples on samples.hash = dataset_rows.sample_hash
    where samples.nonfinite is not null
  ) as nonfinite,
  (
    select count(*)
    from temp.dataset_rows
    join samples indexed by samples_by_hash on samples.hash = dataset_rows.sample_hash
    where nullif(dataset_rows.reward, samples.reward) is not null
  ) as scored

-- name: dataset_rows_table
-- Table of a dataset's rows. split is null if there are no splits.
create temp table dataset_rows (
  position integer primary key, -- from 1, in the dataset's order
  sample_hash text not null unique,
  reward real, -- the newest known
  difficulty text,
  split text,
  rank integer, -- order within the split
  unique (split, rank)
) strict

-- name: eligible_table
-- Table of the samples from which a dataset selects: those of its sources, with their position in source order.
create temp table eligible (
  sample_hash text primary key,
  place integer not null -- source id * 10^12 + position; the largest integer for a sample of no source
) strict, without rowid

-- name: features_of_sources
-- The declared column types of a dataset's sources; null if a source declares none.
-- :source_ids JSON list, null for the whole store   :kind of samples that the sources must have
select sources.features
from sources
where (:source_ids is null or sources.id in (select value from json_each(:source_ids)))
  and exists (
    select 1
    from source_samples
    join samples indexed by samples_by_hash on samples.hash = source_samples.sample_hash
    where source_samples.source_id = sources.id and samples.kind = :kind
  )
order by sources.id

-- name: fill_eligible
-- Adds the samples of a kind in some sources, each once, at its first position.
-- :kind module, rollout or record   :source_ids JSON list, null for the whole store
insert into temp.eligible (sample_hash, place)
select
  samples.hash,
  coalesce(
    (
      select source_samples.source_id * 1000000000000 + source_samples.position
      from source_samples
      where source_samples.sample_hash = samples.hash
        and (:source_ids is null or source_samples.source_id in (select value from json_each(:source_ids)))
      order by source_samples.source_id, source_samples.position
      limit 1
    ),
    9223372036854775807
  ) as place
from samples indexed by samples_by_hash
where samples.kind = :kind
  and (
    :source_ids is null
    or exists (
      select 1
      from source_samples
      where source_samples.sample_hash = samples.hash
        and source_samples.source_id in (select value from json_each(:source_ids))
    )
  )

-- name: keep_wanted
-- Deletes the rows of a dataset that do not satisfy the user's condition.
delete from temp.dataset_rows
where sample_hash not in (select wanted.sample_hash from temp.wanted)

-- name: longest_rows
-- The tokens of a dataset's longest row, by each tokenizer and template that measured all rows.
-- A tokenizer whose template refused all of them is left out.
select
  lengths.tokenizer,
  max(lengths.total_tokens) as total_tokens
from temp.dataset_rows
join lengths on lengths.sample_hash = dataset_rows.sample_hash
group by lengths.tokenizer, lengths.template_hash
having count(*) = (select count(*) from temp.dataset_rows)
  and max(lengths.total_tokens) is not null
order by lengths.tokenizer, lengths.template_hash

-- name: mixed_sources
-- The sources whose rollouts are not all in one other source too, in the order in which they were first ingested;
-- of sources with the same rollouts only the first. If there are several, their rows would be mixed.
with
held as (
  select
    sources.id as id,
    sources.name as name
  from sources
  where exists (
    select 1
    from source_samples
    join samples indexed by samples_by_hash on samples.hash = source_samples.sample_hash
    where source_samples.source_id = sources.id and samples.kind = 'rollout'
  )
),
contained as materialized (
  select
    held.id as id,
    others.id as within
  from held
  join held as others on others.id <> held.id
  where not exists (
    select 1
    from source_samples
    join samples indexed by samples_by_hash on samples.hash = source_samples.sample_hash
    where source_samples.source_id = held.id
      and samples.kind = 'rollout'
      and not exists (
        select 1
        from source_samples as theirs
        where theirs.sample_hash = source_samples.sample_hash and theirs.source_id = others.id
      )
  )
)
select held.name
from held
where not exists (
  select 1
  from contained
  where contained.id = held.id
    and (
      contained.within < held.id
      or not exists (
        select 1
        from contained as back
        where back.id = contained.within and back.within = held.id
      )
    )
)
order by held.id

-- name: other_labels
-- The tasks not in use that labelled samples of a dataset, most samples first. :task name of the task
select
  tasks.model,
  tasks.hash,
  count(*) as samples
from tasks
join outcomes on outcomes.task_hash = tasks.hash and outcomes.attempt = 0 and outcomes.status = 'ok'
join temp.eligible on eligible.sample_hash = outcomes.sample_hash
where tasks.name = :task
  and tasks.in_use = 0
group by tasks.hash
order by samples desc, tasks.hash

-- name: rank_row
-- Sets split and rank of a row of a random split. :position :split :rank
update temp.dataset_rows
set
  split = :split,
  rank = :rank
where position = :position

-- name: rank_rows
-- Sets split and rank of all rows, in the dataset's order. :is_split 1 for the splits of `splits`, 0 for none
update temp.dataset_rows
set
  rank = position,
  split = iif(
    :is_split,
    (select splits.split from splits where splits.sample_hash = dataset_rows.sample_hash),
    null
  )

-- name: rollout_rows
-- The rows of one split of a dataset of rollouts, in order, with the row's own text as bytes.
-- has_labels as in rollout_facts; null if the row was not searched for columns with the names of our labels.
-- score is a reward that came later and differs from the row's own, else null. :split null if there are no splits
select
  dataset_rows.sample_hash,
  samples.module_name,
  dataset_rows.reward,
  dataset_rows.difficulty,
  (select ratings.evaluation_raw from ratings where ratings.sample_hash = dataset_rows.sample_hash)
    as evaluation_raw,
  nullif(
    (
      select scores.reward
      from scores
      where scores.sample_hash = dataset_rows.sample_hash
      order by scores.id desc
      limit 1
    ),
    samples.reward
  ) as score,
  (select rollout_facts.has_labels from rollout_facts where rollout_facts.sample_hash = dataset_rows.sample_hash)
    as has_labels,
  cast(samples.row as blob) as text,
  (
    select field_maps.map
    from mapped_samples
    join field_maps on field_maps.id = mapped_samples.field_map_id
    where mapped_samples.sample_hash = dataset_rows.sample_hash
  ) as field_map
from temp.dataset_rows
cross join samples on samples.hash = dataset_rows.sample_hash
where dataset_rows.split is :split
order by dataset_rows.rank

-- name: rollout_sources
-- The sources with rollouts, in the order in which they were first ingested.
select
  sources.id,
  sources.name
from sources
where exists (
  select 1
  from source_samples
  join samples indexed by samples_by_hash on samples.hash = source_samples.sample_hash
  where source_samples.source_id = sources.id and samples.kind = 'rollout'
)
order by sources.id

-- name: row_positions
-- The positions of a dataset's rows, in order.
select dataset_rows.position
from temp.dataset_rows
order by dataset_rows.position

-- name: rows_by_split
-- The number of a dataset's rows per split; split is null if there are no splits.
select
  dataset_rows.split,
  count(*) as rows
from temp.dataset_rows
group by dataset_rows.split
order by dataset_rows.split

-- name: select_best
-- The highest reward per module among the eligible rows of `filtered`; on a tie the first in source order.
-- Sorted by reward, descending; equal rewards by where the name first appears in `filtered`. A row without the name or
-- code of the grouping is a group of its own.
-- :by name or code
insert into temp.dataset_rows (sample_hash, reward, difficulty)
select
  ranked.sample_hash,
  ranked.reward,
  ranked.difficulty
from (
  select
    filtered.sample_hash as sample_hash,
    filtered.reward as reward,
    filtered.difficulty as difficulty,
    eligible.place as place,
    min(eligible.place) over (
      partition by coalesce(samples.module_name, filtered.sample_hash)
    ) as name_place,
    row_number() over (
      partition by coalesce(
        case :by when 'code' then samples.code_hash else samples.module_name end,
        filtered.sample_hash
      )
      order by filtered.reward desc, eligible.place, filtered.sample_hash
    ) as rank
  from filtered
  join temp.eligible on eligible.sample_hash = filtered.sample_hash
  join samples indexed by samples_by_hash on samples.hash = filtered.sample_hash
) as ranked
where ranked.rank = 1
order by ranked.reward desc, ranked.name_place, ranked.place, ranked.sample_hash

-- name: select_described
-- The eligible modules that have a specification by the task `prompts` in use, in source order.
insert into temp.dataset_rows (sample_hash)
select outcomes.sample_hash
from tasks
join outcomes on outcomes.task_hash = tasks.hash and outcomes.attempt = 0 and outcomes.status = 'ok'
join temp.eligible on eligible.sample_hash = outcomes.sample_hash
where tasks.name = 'prompts'
  and tasks.in_use = 1
order by eligible.place, eligible.sample_hash

-- name: select_from_view
-- The eligible samples that are in the dataset's view, in source order.
insert into temp.dataset_rows (sample_hash, reward, difficulty)
select
  dataset_view.sample_hash,
  dataset_view.reward,
  dataset_view.difficulty
from temp.dataset_view
join temp.eligible on eligible.sample_hash = dataset_view.sample_hash
order by eligible.place, eligible.sample_hash

-- name: select_eligible
-- All eligible samples, in source order; reward is the newest one.
insert into temp.dataset_rows (sample_hash, reward)
select
  samples.hash,
  coalesce(
    (select scores.reward from scores where scores.sample_hash = samples.hash order by scores.id desc limit 1),
    samples.reward
  )
from temp.eligible
join samples indexed by samples_by_hash on samples.hash = eligible.sample_hash
order by eligible.place, eligible.sample_hash

-- name: sources_named
-- Id and name of all sources, in the order in which they were first ingested.
select
  sources.id,
  sources.name
from sources
order by sources.id

-- name: synthetic_rows
-- The rows of one split of `synthetic`, in order; uuid is the row's JSON text. :split null if there are no splits
select
  dataset_rows.sample_hash,
  synthetic.prompt,
  synthetic.module_name,
  synthetic.python_code,
  synthetic.triton_code,
  samples.row -> '$.uuid' as uuid
from temp.dataset_rows
cross join synthetic on synthetic.sample_hash = dataset_rows.sample_hash
join samples indexed by samples_by_hash on samples.hash = dataset_rows.sample_hash
where dataset_rows.split is :split
order by dataset_rows.rank

-- name: wanted_table
-- Table of the samples that satisfy the user's condition.
create temp table wanted (sample_hash text primary key) strict, without rowid

-- name: why_no_rows
-- For a dataset without rows: the eligible samples, those with a reward above min_reward, and of these those that
-- are rated, or described. :task name of the task whose outcomes the dataset uses
select
  (select count(*) from temp.eligible) as eligible,
  (
    select count(*)
    from temp.eligible
    join samples indexed by samples_by_hash on samples.hash = eligible.sample_hash
    where coalesce(
        (select scores.reward from scores where scores.sample_hash = samples.hash order by scores.id desc limit 1),
        samples.reward
      ) > (select settings.value from settings where settings.key = 'min_reward')
  ) as good,
  (
    select count(*)
    from tasks
    join outcomes on outcomes.task_hash = tasks.hash and outcomes.attempt = 0 and outcomes.status = 'ok'
    join temp.eligible on eligible.sample_hash = outcomes.sample_hash
    join samples indexed by samples_by_hash on samples.hash = outcomes.sample_hash
    where tasks.name = :task
      and tasks.in_use = 1
      and (
        samples.kind = 'module'
        or coalesce(
          (select scores.reward from scores where scores.sample_hash = samples.hash order by scores.id desc limit 1),
          samples.reward
        ) > (select settings.value from settings where settings.key = 'min_reward')
      )
  ) as answered,
  (select settings.value from settings where settings.key = 'min_reward') as min_reward
