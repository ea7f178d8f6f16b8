-- Schema 3: who answered, and which rejected rows are known. Open until the release that closes it.

alter table answers add column
  served_model text;  -- the model that the reply names; null if it names none, or the one that was asked

alter table rejected_rows add column
  content_hash blob check (length(content_hash) = 32);  -- SHA-256 of the row as it was read; null if it was rejected before this schema

-- Answers of other models than were asked, without touching the wide rows.
create index answers_by_other_model on answers (run_id, model, served_model) where served_model is not null;

-- Labels that do not exist are in nobody's way: of each name the first task with an outcome that is ok is in use,
-- if the one in use has none.
update tasks
set in_use = 0
where in_use = 1
  and not exists (select 1 from outcomes where outcomes.task_hash = tasks.hash and outcomes.status = 'ok');

update tasks
set in_use = 1
where hash in (
    select (
      select labelled.hash
      from tasks as labelled
      where labelled.name = names.name
        and exists (select 1 from outcomes where outcomes.task_hash = labelled.hash and outcomes.status = 'ok')
      order by labelled.created_at, labelled.hash
      limit 1
    )
    from (select distinct tasks.name from tasks) as names
    where not exists (select 1 from tasks as used where used.name = names.name and used.in_use = 1)
  );
