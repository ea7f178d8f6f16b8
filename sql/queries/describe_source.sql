-- What is known of a source after its memberships were written. Columns as in `sources`.
update sources
set
  uri = :uri,
  kind = :kind,
  revision = :revision,
  split = :split,
  features = :features,
  ingested_at = :ingested_at
where name = :name
