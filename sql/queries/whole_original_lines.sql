-- Every line that a sample's row is not, and its identity.
select original_lines.hash, original_lines.line
from original_lines
