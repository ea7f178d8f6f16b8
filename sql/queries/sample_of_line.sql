-- Which sample a line is, no row for a line not seen before. :line_hash SHA-256 of its bytes
-- A line of which `synth record` built its rollouts is no row by itself.
-- The index holds the kind: the wide rows are not touched.
select known_lines.sample_hash, samples.kind
from known_lines
join samples indexed by samples_by_hash on samples.hash = known_lines.sample_hash
where known_lines.line_hash = :line_hash
  and not exists (
    select 1
    from original_lines
    where original_lines.hash = :line_hash
  )
