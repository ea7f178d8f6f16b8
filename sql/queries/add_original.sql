-- From which line a sample came whose row is not that line; of several the first.
-- :sample_hash   :position of the rollout in the line, from 0   :line_hash SHA-256 of the line
insert into originals (sample_hash, position, line_hash)
values (:sample_hash, :position, :line_hash)
on conflict (sample_hash) do nothing
