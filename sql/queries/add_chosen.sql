-- One more sample that a run is about. :sample_hash
insert into temp.chosen (sample_hash)
values (:sample_hash)
