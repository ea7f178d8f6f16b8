-- Of a dataset without rows: how many samples were eligible, how many of them have a reward above min_reward,
-- and how many were rated or described. :task name of the task whose outcomes the dataset uses
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
    where tasks.name = :task
      and tasks.in_use = 1
  ) as answered,
  (select settings.value from settings where settings.key = 'min_reward') as min_reward
