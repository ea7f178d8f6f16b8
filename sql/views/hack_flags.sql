-- What `kbetl hacks` found in the code of rollouts, one row per rollout and flag. level is `hack` or `suspect`;
-- line (null if no one line shows it) and evidence are those of the solution's code.
create view hack_flags as
select
  solutions.sample_hash as sample_hash,
  found.value ->> '$.flag' as flag,
  found.value ->> '$.level' as level,
  nullif(found.value ->> '$.line', 0) as line,
  found.value ->> '$.evidence' as evidence
from solutions
join findings on findings.solution_hash = solutions.solution_hash
join json_each(findings.findings) as found
