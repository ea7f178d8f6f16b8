-- Forgets the requests of the last batch.
delete from temp.batch_requests
