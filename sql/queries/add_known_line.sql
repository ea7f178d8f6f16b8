-- Remembers which sample a line is. :line_hash SHA-256 of its bytes   :sample_hash
insert into known_lines (line_hash, sample_hash)
values (:line_hash, :sample_hash)
on conflict (line_hash) do nothing
