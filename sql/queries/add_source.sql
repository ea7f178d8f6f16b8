-- Makes a source, unless there is one of that name. Columns as in `sources`.
insert into sources (name, uri, kind, revision, split, features, model, environment, run, ingested_at)
values (:name, :uri, :kind, :revision, :split, :features, :model, :environment, :run, :ingested_at)
on conflict (name) do nothing
