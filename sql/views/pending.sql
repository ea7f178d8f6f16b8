-- What a plain run would still ask for the tasks in use: why is `new` (no outcome yet) or `failed`.
-- Rewards must be above min_reward where the task says so. A task with another `where` of its own is
-- listed with its failed samples alone: only `kbetl enrich --dry-run` can evaluate that `where`.
-- A task whose template asks for the completion leaves out rollouts without an answer; one whose template asks for
-- code leaves out bare prompts.
-- What failed in three runs in a row is parked: `--retry failed` asks it.
-- What is handed out in batch files is left out; `waiting_for_batch` has it.
create view pending as
with asked as materialized (  -- what a template asks for is found out once for each task
  select
    tasks.hash as hash,
    tasks.name as name,
    about.value as kind,
    tasks.restriction as restriction,
    about.value = 'rollout' and replace(tasks.template, ' ', '') like '%{{completion}}%' as reads_completion,
    about.value = 'module' and replace(tasks.template, ' ', '') like '%{{python_code}}%' as reads_code
  from tasks
  join json_each('["' || replace(tasks.about, ',', '","') || '"]') as about
  where tasks.in_use = 1
)
select
  samples.hash as sample_hash,
  asked.name as task,
  asked.hash as task_hash,
  samples.module_name as module_name,
  case when outcomes.status is null then 'new' else 'failed' end as why
from asked
join samples indexed by samples_by_hash on samples.kind = asked.kind  -- hashes in order, as in all that is joined
left join outcomes
  on outcomes.sample_hash = samples.hash
  and outcomes.task_hash = asked.hash
  and outcomes.attempt = 0
where (not asked.reads_code or samples.code_hash is not null)  -- a bare prompt has no code
  and (
    asked.restriction is not 'reward > :min_reward'
    or coalesce(
      (select scores.reward from scores where scores.sample_hash = samples.hash order by scores.id desc limit 1),
      samples.reward
    ) > (select settings.value from settings where settings.key = 'min_reward')
  )
  and (outcomes.status is null or (outcomes.status = 'failed' and outcomes.failures < 3))
  and (
    asked.restriction is null
    or asked.restriction = 'reward > :min_reward'
    or outcomes.status = 'failed'
  )
  and not (
    asked.reads_completion
    and exists (
      select 1
      from rollout_facts
      where rollout_facts.sample_hash = samples.hash and rollout_facts.is_empty = 1
    )
  )
  and not exists (
    select 1
    from handed_out_samples
    join handed_out on handed_out.id = handed_out_samples.handed_out_id
    where handed_out_samples.sample_hash = samples.hash
      and handed_out_samples.task_hash = asked.hash
      and handed_out.attempt = 0
      and handed_out.ending is null
  )
