-- Notes a request. :request_hash
insert into temp.seen (request_hash)
values (:request_hash)
on conflict (request_hash) do nothing
