-- One more request for the batch file that is being written.
-- :request_hash, :attempt, :custom_id, :request   :tokens, :pusd its worst case, null without a budget
insert into temp.handing (request_hash, attempt, custom_id, request, tokens, pusd)
values (:request_hash, :attempt, :custom_id, :request, :tokens, :pusd)
