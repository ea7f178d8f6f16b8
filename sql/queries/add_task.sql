-- Remembers a task the first time it is run; how it is read and what it is about follow its file.
-- :hash identity   :reader JSON   :restriction its `where`, null where it has none   :run_id the run
insert into tasks (
  hash, name, about, model, parameters, in_use, restriction, reader, closing, created_at, run_id, system, template
)
values (
  :hash, :name, :about, :model, :parameters, 0, :restriction, :reader, :closing, :created_at, :run_id, :system,
  :template
)
on conflict (hash) do update
set
  about = excluded.about,
  restriction = excluded.restriction,
  reader = excluded.reader,
  closing = excluded.closing
