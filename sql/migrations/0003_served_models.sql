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
-- Samples of any other kind, tasks about several kinds, and columns that are mapped. The checks of tables that may be
-- large are changed in their text alone; what changes the schema after that makes every connection read it anew.
pragma writable_schema = on;
update sqlite_schema
set sql = replace(sql, 'check (kind in (''module'', ''rollout''))', 'check (kind in (''module'', ''rollout'', ''record''))')
where type = 'table' and name = 'samples';
update sqlite_schema
set sql = replace(sql, 'check (about in (''module'', ''rollout''))', 'check (about <> '''')')
where type = 'table' and name = 'tasks';
pragma writable_schema = reset;

create table field_maps (
  id integer primary key,  -- of the map
  map text not null unique check (json_valid(map)),  -- JSON object: dotted path by name, as --map gave it
  prompt text,  -- SQLite path of what is read as prompt; null here and below: not mapped
  completion text,  -- of the answer: text, or messages
  reasoning text,  -- of its reasoning
  reward text,  -- of its reward
  module_name text,  -- of the class name of the module
  python_code text,  -- of its PyTorch source
  triton_code text,  -- of its reference Triton kernel
  model text,  -- of the model whose answer it is
  environment text,  -- of the environment that it is an attempt in
  sample_group text  -- of the group: its rows are on one side of a split
) strict;

create table mapped_samples (
  sample_hash text primary key references samples (hash),  -- a sample that is read by a map
  field_map_id integer not null references field_maps (id)  -- the map
) strict, without rowid;

alter table sources add column
  field_map text check (field_map is null or json_valid(field_map));  -- JSON object: how --map reads its rows; null where nothing is mapped
alter table rollout_facts add column
  completion_path text;  -- SQLite path of the completion in the row; null: $.completion
-- The name of a task is the name of a view and of a column of `selectable`: none of its other columns may be called so.
alter table tasks add column
  label_name text  -- the name as that of a view and a column; null only for a task of an older schema that has another name
    check (
      label_name = name
      and length(label_name) between 1 and 64
      and label_name not glob '*[^a-z0-9_-]*'
      and label_name not in (
        'sample_hash', 'hash', 'kind', 'module_name', 'code_hash', 'code_point', 'name_point', 'reward', 'nonfinite',
        'status', 'evaluation_raw', 'rating_model', 'task_hash', 'answered_at', 'model', 'environment', 'example_id',
        'completion', 'reasoning', 'finish_reason', 'error', 'flags', 'worst', 'contaminated', 'votes_agree', 'license', 'row'
      )
    );

-- What the check refuses keeps its name, and has no view.
update or ignore tasks
set label_name = name;
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
where (lengths.tokenizer, lengths.template_hash) in (
    select further.tokenizer, further.template_hash
    from lengths as further
    join (
      select named.template_hash as template_hash, min(named.tokenizer) as first_name
      from lengths as named
      group by named.template_hash
    ) as names
      on names.template_hash = further.template_hash and names.first_name <> further.tokenizer
  );
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
  reason text,  -- why it cannot be read; null if it was
  judged integer not null default 0 check (judged in (0, 1))  -- 1: compared with the benchmarks that are judged
) strict, without rowid;

create table benchmarks (
  id integer primary key,  -- of the benchmark
  name text not null unique,  -- as given by --as, else the file's name
  uri text not null,  -- where it was read
  revision text not null,  -- SHA-256 of its problems
  read_at text not null,  -- UTC, ISO 8601
  judged integer not null default 0 check (judged in (0, 1))  -- 1: compared with the codes that are judged
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
