-- One row per sample that was asked for its difficulty, with the labels in use; as long as no task of that name
-- has a label, with what became of the newest.
-- difficulty is null where status is not ok; reward is the newest known. The index spares the wide rows:
-- SQLite would choose the primary key, 4 times slower.
create view ratings as
select
  outcomes.sample_hash as sample_hash,
  samples.module_name as module_name,
  coalesce(
    (select scores.reward from scores where scores.sample_hash = samples.hash order by scores.id desc limit 1),
    samples.reward
  ) as reward,
  outcomes.value as difficulty,
  outcomes.status as status,
  answers.content as evaluation_raw,
  tasks.model as model,
  outcomes.task_hash as task_hash,
  coalesce(answers.answered_at, outcomes.decided_at) as answered_at
from tasks
join outcomes on outcomes.task_hash = tasks.hash and outcomes.attempt = 0
join samples indexed by samples_by_hash on samples.hash = outcomes.sample_hash
left join answers
  on answers.request_hash = outcomes.request_hash
  and answers.attempt = outcomes.attempt
  and answers.try = outcomes.try
where tasks.name = 'difficulty'
  and (
    tasks.in_use = 1
    or (
      not exists (select 1 from tasks as used where used.name = 'difficulty' and used.in_use = 1)
      and tasks.hash = (
        select newest.hash
        from tasks as newest
        where newest.name = 'difficulty'
        order by newest.created_at desc, newest.hash desc
        limit 1
      )
    )
  )
