-- Rollouts whose row names a speed-up, against what fusing alone can give. An eager module starts about one kernel per
-- operator, so a solution that only fuses cannot pass their number by much: ceiling is 2 + 1.5 times the operators of
-- the module, at most 10, and 10 if the module is not known. A speed-up that is no number counts as none. implausible
-- is 1 above it, and where a reward stands beside no code or code that does not parse: a hint for a person.
create view reward_checks as
select
  measured.sample_hash as sample_hash,
  measured.speedup as speedup,
  measured.operators as operators,
  measured.launches as launches,
  measured.ceiling as ceiling,
  case
    when measured.is_empty and measured.reward > 0 then 1
    when measured.speedup > measured.ceiling then 1
    else 0
  end as implausible
from (
  select
    samples.hash as sample_hash,
    coalesce(
      case
        when json_type(samples.row, '$.speedup_reward') in ('integer', 'real')
        then samples.row ->> '$.speedup_reward'
      end,
      case
        when json_type(samples.row, '$.speedup') in ('integer', 'real')
        then samples.row ->> '$.speedup'
      end
    ) as speedup,
    coalesce(
      (select scores.reward from scores where scores.sample_hash = samples.hash order by scores.id desc limit 1),
      samples.reward
    ) as reward,
    findings.operators as operators,
    findings.launches as launches,
    coalesce(min(2 + 1.5 * findings.operators, 10), 10) as ceiling,
    findings.findings like '%"flag":"no_code"%' or findings.findings like '%"flag":"does_not_parse"%' as is_empty
  from solutions
  join findings on findings.solution_hash = solutions.solution_hash
  join samples on samples.hash = solutions.sample_hash
) as measured
where measured.speedup is not null or (measured.is_empty and measured.reward > 0)
