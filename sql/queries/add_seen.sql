-- Notes an attempt at a request. :request_hash, :attempt
insert into temp.seen (request_hash, attempt)
values (:request_hash, :attempt)
on conflict (request_hash, attempt) do nothing
