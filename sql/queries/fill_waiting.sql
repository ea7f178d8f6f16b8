-- Of the chosen samples those without an outcome, those that failed, and those whose status is asked again;
-- each as often as answers are wanted about it, all of one sample together.
-- :task_hash   :attempts wanted about each   :statuses JSON list of statuses to ask again ("failed" among them)
-- :wants_new 0 or 1   :wants_rollouts 0, or 1 where an answer that has not become a rollout is wanting
-- :before_run leaves out what an answer of that run or a later one settled; null leaves out nothing
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
