-- Forgets the samples of an ingest before.
delete from incoming_samples
