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

-- What the code of rollouts shows. Facts by code: the same solution of the same module is read once.
create table findings (
  solution_hash text primary key check (length(solution_hash) = 64),  -- SHA-256 of the solution's code with name and code of its module
  version integer not null,  -- of the checker that read it
  findings text not null check (json_valid(findings)),  -- JSON list of flag, level, line, evidence; empty if it is clean
  launches integer not null check (launches >= 0),  -- launches of Triton kernels in one call of its forward
  operators integer check (operators >= 0)  -- operators of the module that are no copies; null if the module is not known
) strict, without rowid;

create table solutions (
  sample_hash text primary key references samples (hash),  -- the rollout
  solution_hash text not null references findings (solution_hash)  -- what its last assistant text holds
) strict, without rowid;

-- Which rollouts hold a solution.
create index solutions_by_code on solutions (solution_hash);

-- Hashes of modules that stay when names, numbers or form change. Facts by code, of samples and of benchmarks.
create table fingerprints (
  code_hash text primary key check (code_hash glob 'c1:*'),  -- as in samples
  version integer not null,  -- of the reading that made it
  renamed_hash text,  -- without every name that the source chooses; null if the code cannot be read, as all below
  shape_hash text,  -- without numbers and inputs as well
  dataflow_hash text,  -- of the nested operators; null if none is known by what it computes
  dataflow_parts integer not null check (dataflow_parts >= 0),  -- operators that are no copies
  settings_hash text,  -- of the numbers and texts, in whatever order
  parts blob not null,  -- first eight bytes of the hash of each part of the dataflow, the whole too, sorted
  reason text  -- why it cannot be read; null if it was
) strict, without rowid;

create table benchmarks (
  id integer primary key,  -- of the benchmark
  name text not null unique,  -- as given by --as, else the file's name
  uri text not null,  -- where it was read
  revision text not null,  -- SHA-256 of its problems
  read_at text not null  -- UTC, ISO 8601
) strict;

create table problems (
  benchmark_id integer not null references benchmarks (id),  -- the benchmark
  position integer not null check (position >= 0),  -- in its file, from 0
  problem text not null,  -- LEVEL/ID, else its name
  code_hash text not null references fingerprints (code_hash),  -- of its code
  code text not null,  -- PyTorch source
  primary key (benchmark_id, position)
) strict, without rowid;

create table contamination_pairs (
  benchmark_id integer not null,  -- with position: the problem
  position integer not null,  -- as in problems
  code_hash text not null references fingerprints (code_hash),  -- the module's code
  how text not null check (how in ('code', 'renamed', 'shape', 'dataflow', 'inside', 'operators')),  -- the strongest likeness
  parts integer not null check (parts >= 0),  -- operators of the problem
  settings_differ integer not null check (settings_differ in (0, 1)),  -- 1: the same dataflow with other numbers or texts
  primary key (code_hash, benchmark_id, position),
  foreign key (benchmark_id, position) references problems (benchmark_id, position)
) strict, without rowid;

create table verdicts (
  code_hash text not null,  -- the module's code
  problem_code_hash text not null,  -- the problem's code
  verdict text not null check (verdict in ('same', 'similar', 'different')),  -- what a person says of the two
  note text,  -- why; null if none was given
  decided_at text not null,  -- UTC, ISO 8601
  primary key (code_hash, problem_code_hash)
) strict, without rowid;
