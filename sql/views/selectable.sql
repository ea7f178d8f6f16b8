-- What `--where` and a task's `where` may name: the columns of samples, ratings, rollouts and hacks, each once, and the
-- labels of each task in use by its name, the fields of a JSON label as NAME_field. contaminated is 1 if the sample is
-- none of `decontaminated`, null while its code was not compared with all benchmarks, and while there are none.
-- reward is the newest known; rating_model is the model that rated. Columns that are not named cost nothing.
create view selectable as
select
  samples.hash as sample_hash,
  samples.hash as hash,
  samples.kind as kind,
  samples.module_name as module_name,
  samples.code_hash as code_hash,
  samples.code_point as code_point,
  samples.name_point as name_point,
  coalesce(
    (select scores.reward from scores where scores.sample_hash = samples.hash order by scores.id desc limit 1),
    samples.reward
  ) as reward,
  samples.nonfinite as nonfinite,
  (select ratings.difficulty from ratings where ratings.sample_hash = samples.hash) as difficulty,
  (select ratings.status from ratings where ratings.sample_hash = samples.hash) as status,
  (select ratings.evaluation_raw from ratings where ratings.sample_hash = samples.hash) as evaluation_raw,
  (select ratings.model from ratings where ratings.sample_hash = samples.hash) as rating_model,
  (select ratings.task_hash from ratings where ratings.sample_hash = samples.hash) as task_hash,
  (select ratings.answered_at from ratings where ratings.sample_hash = samples.hash) as answered_at,
  (select rollouts.model from rollouts where rollouts.sample_hash = samples.hash) as model,
  (select rollouts.environment from rollouts where rollouts.sample_hash = samples.hash) as environment,
  (select rollouts.example_id from rollouts where rollouts.sample_hash = samples.hash) as example_id,
  (select rollouts.completion from rollouts where rollouts.sample_hash = samples.hash) as completion,
  (select rollouts.reasoning from rollouts where rollouts.sample_hash = samples.hash) as reasoning,
  (select rollouts.finish_reason from rollouts where rollouts.sample_hash = samples.hash) as finish_reason,
  (select rollouts.error from rollouts where rollouts.sample_hash = samples.hash) as error,
  (select hacks.flags from hacks where hacks.sample_hash = samples.hash) as flags,
  (select hacks.worst from hacks where hacks.sample_hash = samples.hash) as worst,
  case
    when (select min(benchmarks.judged) from benchmarks) = 1
      and (
        samples.code_hash is null
        or exists (
          select 1
          from fingerprints
          where fingerprints.code_hash = samples.code_hash and fingerprints.judged = 1
        )
      )
    then not exists (select 1 from decontaminated where decontaminated.sample_hash = samples.hash)
  end as contaminated,
  -- labels of the tasks in use
  samples.row as row
from samples
