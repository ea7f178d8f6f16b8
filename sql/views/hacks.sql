-- One row per rollout: its flags by `kbetl hacks`, comma separated, empty if it is clean. worst is `hack` or
-- `suspect`, null if it is clean, and `unchecked` (with flags null) until `kbetl hacks` has read it.
create view hacks as
select
  samples.hash as sample_hash,
  samples.module_name as module_name,
  coalesce(
    (select scores.reward from scores where scores.sample_hash = samples.hash order by scores.id desc limit 1),
    samples.reward
  ) as reward,
  (
    select coalesce(group_concat(found.value ->> '$.flag', ','), '')
    from json_each(findings.findings) as found
    where findings.findings is not null
    having findings.findings is not null
  ) as flags,
  case
    when findings.findings is null then 'unchecked'
    when findings.findings = '[]' then null
    when findings.findings like '%"level":"hack"%' then 'hack'
    else 'suspect'
  end as worst
from samples
left join solutions on solutions.sample_hash = samples.hash
left join findings on findings.solution_hash = solutions.solution_hash
where samples.kind = 'rollout'
