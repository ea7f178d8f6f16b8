-- How many of the eligible samples came how far: all of them, those that a task is about (rollouts above
-- min_reward; every module), those of these without an outcome, and those in `filtered`.
-- :task name of the task in use, null where the dataset needs none
select
  count(*) as samples,
  coalesce(sum(eligible_samples.is_meant), 0) as meant,
  coalesce(sum(
    eligible_samples.is_meant
    and not exists (
      select 1
      from tasks
      join outcomes on outcomes.task_hash = tasks.hash and outcomes.attempt = 0
      where tasks.name = :task
        and tasks.in_use = 1
        and outcomes.sample_hash = eligible_samples.sample_hash
    )
  ), 0) as unasked,
  (
    select count(*)
    from filtered
    join temp.eligible on eligible.sample_hash = filtered.sample_hash
  ) as filtered
from (
  select
    eligible.sample_hash as sample_hash,
    samples.kind = 'module' or coalesce(
      coalesce(
        (select scores.reward from scores where scores.sample_hash = samples.hash order by scores.id desc limit 1),
        samples.reward
      ) > (select settings.value from settings where settings.key = 'min_reward'),
      0
    ) as is_meant
  from temp.eligible
  join samples indexed by samples_by_hash on samples.hash = eligible.sample_hash
) as eligible_samples
