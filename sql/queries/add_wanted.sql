-- One more sample for which the user's own condition holds. :sample_hash
insert into temp.wanted (sample_hash)
values (:sample_hash)
