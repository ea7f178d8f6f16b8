-- Schema 3: who answered, and which rejected rows are known. Open until the release that closes it.

alter table answers add column
  served_model text;  -- the model that the reply names; null if it names none, or the one that was asked

alter table rejected_rows add column
  content_hash blob check (length(content_hash) = 32);  -- SHA-256 of the row as it was read; null if it was rejected before this schema

-- Answers of other models than were asked, without touching the wide rows.
create index answers_by_other_model on answers (run_id, model, served_model) where served_model is not null;

alter table sources add column
  is_mixed integer not null default 0 check (is_mixed in (0, 1));  -- 1: `ingest` and `synth record` both gave it samples; neither takes out what the other gave

-- Whether a row that comes in was rejected before.
create index rejected_rows_by_content on rejected_rows (content_hash) where content_hash is not null;

-- What newer tools say of a rollout, and texts that no SQL finds in its row.
alter table rollout_facts add column
  other_completion text;  -- last text of the assistant less thoughts, if the view `rollouts` cannot read it from the row; empty: there is none
alter table rollout_facts add column
  earlier_errors text check (earlier_errors is null or json_valid(earlier_errors));  -- JSON list of errors that did not end it: of tries before the last one
alter table rollout_facts add column
  unscored text check (unscored is null or json_valid(unscored));  -- JSON list of the parts of its reward that were not scored; null if all were
alter table rollout_facts add column
  reading integer;  -- version of the rules by which its messages were read; null before this schema

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

alter table runs add column
  command_line text;  -- what goes on with it: the command as typed, less store, limits and choice of samples; null: begun by no command of its own, or before this schema

-- Runs of stores that were merged into this one.
alter table runs add column
  origin text check (origin <> '');  -- null: a run of this store; else the label of the store that it was merged from

-- A tokenizer is its template_hash: what was measured with it under several names is kept once, under the first name.
insert into lengths (
  sample_hash, tokenizer, template_hash, prompt_tokens, completion_tokens, total_tokens, unreached, refusal
)
select
  lengths.sample_hash,
  names.first_name,
  lengths.template_hash,
  lengths.prompt_tokens,
  lengths.completion_tokens,
  lengths.total_tokens,
  lengths.unreached,
  lengths.refusal
from (
  select lengths.template_hash as template_hash, min(lengths.tokenizer) as first_name
  from lengths
  group by lengths.template_hash
  having min(lengths.tokenizer) <> max(lengths.tokenizer)
) as names
join lengths on lengths.template_hash = names.template_hash and lengths.tokenizer <> names.first_name
where true
on conflict (tokenizer, template_hash, sample_hash) do nothing;

delete from lengths
where exists (
    select 1
    from lengths as named
    where named.tokenizer < lengths.tokenizer
      and named.template_hash = lengths.template_hash
      and named.sample_hash = lengths.sample_hash
  );
