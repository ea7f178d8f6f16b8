-- What is known of a source after its memberships were written. Columns as in `sources`;
-- what a run once said of itself stays where nothing newer is said.
update sources
set
  uri = :uri,
  kind = iif(is_mixed, kind, :kind),
  revision = :revision,
  split = :split,
  features = :features,
  model = coalesce(:model, model),
  environment = coalesce(:environment, environment),
  run = coalesce(:run, run),
  ingested_at = :ingested_at
where name = :name
