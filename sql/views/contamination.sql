-- Samples whose module is like a problem of a benchmark, by `kbetl contamination`. problem is LEVEL/ID, else its name.
-- how is the strongest of code, renamed, shape, dataflow, inside (the whole problem, of two operators or more, is a
-- part of the module) and operators (so is a problem of one operator, which says little). parts are the operators of
-- the problem; settings_differ is 1 if the same is computed with other numbers or texts. score is null for these.
-- verdict is what a person said of the two codes, null if nobody did.
create view contamination as
select
  samples.hash as sample_hash,
  benchmarks.name as benchmark,
  problems.problem as problem,
  contamination_pairs.how as how,
  contamination_pairs.parts as parts,
  null as score,
  contamination_pairs.settings_differ as settings_differ,
  verdicts.verdict as verdict
from samples
join contamination_pairs on contamination_pairs.code_hash = samples.code_hash
join problems
  on problems.benchmark_id = contamination_pairs.benchmark_id
  and problems.position = contamination_pairs.position
join benchmarks on benchmarks.id = problems.benchmark_id
left join verdicts
  on verdicts.code_hash = contamination_pairs.code_hash
  and verdicts.problem_code_hash = problems.code_hash
