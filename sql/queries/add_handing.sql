-- One more request for the batch file that is being written; changes nothing where it is there already.
-- :request_hash, :attempt, :custom_id, :request
insert into temp.handing (request_hash, attempt, custom_id, request)
values (:request_hash, :attempt, :custom_id, :request)
on conflict (request_hash, attempt) do nothing
