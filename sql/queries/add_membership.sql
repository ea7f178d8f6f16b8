-- Puts a sample at a place of a source. :source_id, :position, :sample_hash
insert into source_samples (source_id, position, sample_hash)
values (:source_id, :position, :sample_hash)
