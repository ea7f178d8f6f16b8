-- A source has samples from `ingest` and from `synth record` from now on; it stays what it was called at first.
-- :source_id
update sources
set is_mixed = 1
where id = :source_id
