-- A row of the running ingest is a sample. :position from 0   :sample_hash
insert into incoming_samples (position, sample_hash)
values (:position, :sample_hash)
