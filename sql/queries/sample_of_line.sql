-- Which sample a line is, no row for a line not seen before. :line_hash SHA-256 of its bytes
select known_lines.sample_hash
from known_lines
where known_lines.line_hash = :line_hash
