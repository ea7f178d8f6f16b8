-- What a plain run would still ask for the tasks in use: why is `new` (no outcome yet) or `failed`.
-- Rewards must be above min_reward where the task says so. A task with another `where` of its own is
-- listed with its failed samples alone: only `kbetl enrich --dry-run` can evaluate that `where`.
-- A task whose template asks for the completion leaves out rollouts without an answer; one whose template asks for
-- code leaves out bare prompts.
-- What failed in three runs in a row is parked: `--retry failed` asks it.
-- What is handed out in batch files is left out; `waiting_for_batch` has it.
create view pending as
select
  samples.hash as sample_hash,
  tasks.name as task,
  tasks.hash as task_hash,
  samples.module_name as module_name,
  case when outcomes.status is null then 'new' else 'failed' end as why
from tasks
join json_each('["' || replace(tasks.about, ',', '","') || '"]') as about
join samples on samples.kind = about.value
left join outcomes
  on outcomes.sample_hash = samples.hash
  and outcomes.task_hash = tasks.hash
  and outcomes.attempt = 0
where tasks.in_use = 1
  and (
    samples.kind <> 'module'
    or replace(tasks.template, ' ', '') not like '%{{python_code}}%'
    or exists (
      select 1
      from samples as coded indexed by samples_by_hash  -- a bare prompt has no code; the index spares the wide rows
      where coded.hash = samples.hash and coded.code_hash is not null
    )
  )
  and (outcomes.status is null or (outcomes.status = 'failed' and outcomes.failures < 3))
  and (
    tasks.restriction is null
    or (tasks.restriction <> 'reward > :min_reward' and outcomes.status = 'failed')
    or (
      tasks.restriction = 'reward > :min_reward'
      and coalesce(
        (select scores.reward from scores where scores.sample_hash = samples.hash order by scores.id desc limit 1),
        samples.reward
      ) > (select settings.value from settings where settings.key = 'min_reward')
    )
  )
  and not (
    samples.kind = 'rollout'
    and replace(tasks.template, ' ', '') like '%{{completion}}%'
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
      and handed_out_samples.task_hash = tasks.hash
      and handed_out.attempt = 0
      and handed_out.ending is null
  )
