-- A row of the running ingest is a sample.
-- :position from 0   :sample_hash   :line_hash SHA-256 of its line, null for a line seen before
insert into incoming_samples (position, sample_hash, line_hash)
values (:position, :sample_hash, :line_hash)
