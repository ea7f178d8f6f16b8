-- name: add_wanted
-- One more sample for which the user's own condition holds. :sample_hash
insert into temp.wanted (sample_hash)
values (:sample_hash)

-- name: codes_over_names
-- Codes that the eligible rows of `filtered` have under several module names, most names first; and how many
-- such codes there are in all. names is a JSON list. :limit number of codes
select
  named.code_hash,
  json_group_array(named.module_name) as names,
  sum(named.rows) as rows,
  count(*) over () as codes
from (
  select
    samples.code_hash as code_hash,
    samples.module_name as module_name,
    count(*) as rows
  from filtered
  join temp.eligible on eligible.sample_hash = filtered.sample_hash
  join samples indexed by samples_by_hash on samples.hash = filtered.sample_hash
  where samples.code_hash is not null
    and samples.module_name is not null
  group by samples.code_hash, samples.module_name
  order by samples.code_hash, samples.module_name
) as named
group by named.code_hash
having count(*) > 1
order by count(*) desc, named.code_hash
limit :limit

-- name: dataset_notes
-- What is peculiar to a dataset's rows: in no source any more; repeats in a source, of which one is kept;
-- numbers that were NaN or infinite and are null; rewards that came later than the row and differ from its own.
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
-- The rows of a dataset. Without splits, split is null in every row.
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
-- The samples from which a dataset is made: those of its sources, with their place in source order.
create temp table eligible (
  sample_hash text primary key,
  place integer not null -- source id * 10^12 + position; the largest integer for a sample of no source
) strict, without rowid

-- name: features_of_sources
-- What the sources of a dataset declare of their columns; null where one declares nothing.
-- :source_ids JSON list, null for the whole store   :kind of samples that the sources must hold
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
-- Samples of a kind in the chosen sources, each once, at its first place.
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
-- Of a dataset's rows those alone for which the user's own condition holds.
delete from temp.dataset_rows
where sample_hash not in (select wanted.sample_hash from temp.wanted)

-- name: longest_rows
-- How long a dataset's rows are, by tokenizer and template that measured all of them: the longest, in tokens.
-- A tokenizer whose template took none of them says nothing.
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
-- The sources whose rollouts are not all in one other source as well, in the order in which they were first ingested;
-- of those that hold the same rollouts the first. More than one: their rows would mix.
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

-- name: names_over_codes
-- Module names under which the eligible rows of `filtered` have different code, most codes first; and how
-- many such names there are in all. :limit number of names
select
  samples.module_name,
  count(distinct samples.code_hash) as codes,
  count(*) as rows,
  count(*) over () as names
from filtered
join temp.eligible on eligible.sample_hash = filtered.sample_hash
join samples indexed by samples_by_hash on samples.hash = filtered.sample_hash
where samples.module_name is not null
group by samples.module_name
having count(distinct samples.code_hash) > 1
order by count(distinct samples.code_hash) desc, samples.module_name
limit :limit

-- name: other_labels
-- Of a dataset without labels: who else labelled its samples, the most first. :task name of the task
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
-- Where a random split has one row. :position :split :rank
update temp.dataset_rows
set
  split = :split,
  rank = :rank
where position = :position

-- name: rank_rows
-- The rows keep the dataset's order. :is_split 1: on the side where `splits` has them; 0: on no side
update temp.dataset_rows
set
  rank = position,
  split = iif(
    :is_split,
    (select splits.split from splits where splits.sample_hash = dataset_rows.sample_hash),
    null
  )

-- name: rollout_rows
-- The rows of one side of a dataset of rollouts, in order, with the row's own text as bytes.
-- has_labels as in rollout_facts, null where nobody looked for columns of the row that are called as ours.
-- score is a reward that came later than the row and differs from the row's own, else null. :split null where there are no splits
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
-- The sources that hold rollouts, in the order in which they were first ingested.
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
-- How many rows of a dataset are on which side; without splits the side is null.
select
  dataset_rows.split,
  count(*) as rows
from temp.dataset_rows
group by dataset_rows.split
order by dataset_rows.split

-- name: select_best
-- The highest reward per module among the eligible rows of `filtered`; on a tie the first in source order.
-- Sorted by reward, descending; equal rewards by where the name first appears in `filtered`. Rows without the name or code that they are grouped by are each their own.
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
-- The rows of the chosen dataset's view among the eligible samples, in source order.
insert into temp.dataset_rows (sample_hash, reward, difficulty)
select
  dataset_view.sample_hash,
  dataset_view.reward,
  dataset_view.difficulty
from temp.dataset_view
join temp.eligible on eligible.sample_hash = dataset_view.sample_hash
order by eligible.place, eligible.sample_hash

-- name: select_eligible
-- Every eligible sample, in source order; reward is the newest known.
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
-- All sources: id and name, in the order in which they came.
select
  sources.id,
  sources.name
from sources
order by sources.id

-- name: synthetic_rows
-- The rows of one side of `synthetic`, in order; uuid is JSON text, as the row has it. :split null where there are no splits
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

-- name: unique_counts
-- What `unique` makes of the eligible rows of `filtered`: rows in, different names and codes among them, rows
-- kept, lowest and highest reward kept, and how many names and codes have no row among those kept.
with given as (
  select
    filtered.sample_hash as sample_hash,
    samples.module_name as module_name,
    samples.code_hash as code_hash
  from filtered
  join temp.eligible on eligible.sample_hash = filtered.sample_hash
  join samples indexed by samples_by_hash on samples.hash = filtered.sample_hash
),
kept as (
  select
    samples.module_name as module_name,
    samples.code_hash as code_hash
  from temp.dataset_rows
  join samples indexed by samples_by_hash on samples.hash = dataset_rows.sample_hash
)
select
  (select count(*) from given) as rows,
  (select count(distinct given.module_name) from given) as names,
  (select count(distinct given.code_hash) from given) as codes,
  (select count(*) from temp.dataset_rows) as kept,
  (select min(dataset_rows.reward) from temp.dataset_rows) as lowest,
  (select max(dataset_rows.reward) from temp.dataset_rows) as highest,
  (select count(distinct given.module_name) from given)
    - (select count(distinct kept.module_name) from kept) as lost_names,
  (select count(distinct given.code_hash) from given)
    - (select count(distinct kept.code_hash) from kept) as lost_codes

-- name: unique_top
-- The first rows of `unique`. :limit number of rows
select
  dataset_rows.sample_hash,
  samples.module_name,
  dataset_rows.reward,
  dataset_rows.difficulty
from temp.dataset_rows
join samples indexed by samples_by_hash on samples.hash = dataset_rows.sample_hash
order by dataset_rows.position
limit :limit

-- name: wanted_table
-- The samples for which the user's own condition holds.
create temp table wanted (sample_hash text primary key) strict, without rowid

-- name: why_no_rows
-- Of a dataset without rows: how many samples were eligible, how many of them have a reward above min_reward,
-- and how many were rated (of those) or described. :task name of the task whose outcomes the dataset uses
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
