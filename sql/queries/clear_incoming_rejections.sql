-- Forgets the rejected rows of an ingest before.
delete from incoming_rejections
