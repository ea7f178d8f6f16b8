-- One more sample that a request of that file settles. :request_hash, :attempt, :sample_hash
insert into temp.handing_samples (request_hash, attempt, sample_hash)
values (:request_hash, :attempt, :sample_hash)
