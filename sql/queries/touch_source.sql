-- A source got samples. :source_id   :ingested_at UTC, ISO 8601
update sources
set ingested_at = :ingested_at
where id = :source_id
