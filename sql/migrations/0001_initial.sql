-- Schema 1: sources, samples, scores, tasks, answers, outcomes, lengths, runs, settings.
-- Times are UTC, ISO 8601 with milliseconds. Hashes are text: a version prefix and a SHA-256 in hex.

create table runs (
  id integer primary key,  -- a higher one began later
  command text not null check (command <> ''),  -- ingest, enrich, reparse, use, ...
  options text not null check (json_valid(options)),  -- JSON object, as given and resolved; no secrets
  started_at text not null,  -- when it began
  ended_at text,  -- null while it runs, and for ever if it was killed
  status integer,  -- its exit status; null while it runs, and for ever if it was killed
  pid integer not null,  -- process that ran it
  task text,  -- name of the task it asked about, if any
  task_hash text references tasks (hash),  -- the task as asked; null where it asked about none
  counts text check (counts is null or json_valid(counts)),  -- JSON object of what it read, asked, kept
  cost_usd real,  -- what its answers cost, as far as they said so; null where none did
  kbetl_version text not null  -- version that ran it
) strict;

create index runs_by_task on runs (task, id);

create table sources (
  id integer primary key,  -- in the order in which they were first ingested
  name text not null unique check (name <> ''),  -- what --source calls it: by default its path, or repo:split
  uri text not null,  -- path, or dataset on the Hub
  kind text not null check (kind in ('hub', 'file', 'folder', 'stdin', 'run')),  -- what `uri` names
  revision text,  -- commit of a Hub dataset; null for files
  split text,  -- split of a Hub dataset; null for files
  features text check (features is null or json_valid(features)),  -- declared column types, as JSON; null where the source declares none
  ingested_at text not null  -- when its memberships were last written
) strict;

create table samples (
  hash text primary key check (hash glob 's1:*' and length(hash) = 67),  -- identity of the content
  kind text not null check (kind in ('module', 'rollout')),  -- module: a problem; rollout: an attempt at one
  module_name text,  -- class name; null where the row names none
  code_hash text check (code_hash is null or code_hash glob 'c1:*'),  -- PyTorch source less comments and idle blanks; null without source
  code_point integer not null check (code_point between 0 and 2147483647),  -- from code, else name, else hash: places the row in a split
  name_point integer not null check (name_point between 0 and 2147483647),  -- from name, else code, else hash
  reward real,  -- as in the row; null where it has none, or none that is finite
  nonfinite text check (nonfinite is null or json_valid(nonfinite)),  -- JSON list of paths that were NaN or infinite; null where there were none
  row text not null  -- the row's own JSON text, its key order and spelling kept
) strict;

-- Which samples a task is about, without touching the wide rows.
create index samples_by_reward on samples (kind, reward, hash);
-- Everything narrow by hash: ratings, splits and counts read this and not the wide rows.
create index samples_by_hash on samples (hash, kind, module_name, reward, code_hash, code_point, name_point);

create table source_samples (
  source_id integer not null references sources (id),  -- the source that holds it
  position integer not null check (position >= 0),  -- place in the source, from 0, rejected rows counted
  sample_hash text not null references samples (hash),  -- the sample at that place; a repeat is another place
  primary key (source_id, position)
) strict, without rowid;

create index source_samples_by_sample on source_samples (sample_hash, source_id, position);

create table known_lines (
  line_hash blob primary key check (length(line_hash) = 32),  -- SHA-256 of a line as it stood in a file
  sample_hash text not null references samples (hash)  -- the sample that it is
) strict, without rowid;

create table rejected_rows (
  source_id integer not null references sources (id),  -- the source that holds it
  position integer not null check (position >= 0),  -- place in the source, from 0
  location text not null,  -- FILE:LINE
  reason text not null check (reason <> ''),  -- why it could not be a sample
  run_id integer not null references runs (id),  -- the run that refused it
  primary key (source_id, position)
) strict, without rowid;

create table scores (
  id integer primary key,  -- a higher one is newer
  sample_hash text not null references samples (hash),  -- the rollout
  reward real not null,  -- measured after the rollout came in; views read the newest
  scored_at text not null,  -- when it was stored
  run_id integer not null references runs (id)  -- the run that stored it
) strict;

create index scores_by_sample on scores (sample_hash, id, reward);

create table tasks (
  hash text primary key check (hash glob 't1:*' and length(hash) = 67),  -- of name, template, system, model and parameters
  name text not null check (name <> ''),  -- as in the task's file; several tasks may share it
  about text not null check (about in ('module', 'rollout')),  -- kind of sample it is asked about
  model text not null,  -- the model that is asked
  parameters text not null check (json_valid(parameters)),  -- JSON object of request parameters
  in_use integer not null check (in_use in (0, 1)),  -- 1: the datasets use its outcomes; one per name
  restriction text,  -- the task's own `where`; null where it has none
  reader text not null check (json_valid(reader)),  -- JSON: how an answer is read
  closing text,  -- text that the dataset appends to the value; null where there is none
  created_at text not null,  -- when it was first used
  run_id integer not null references runs (id),  -- the run that first used it
  system text,  -- system prompt; null where there is none
  template text not null  -- prompt template, as in the task's file
) strict;

create unique index tasks_in_use on tasks (name) where in_use = 1;
create index tasks_by_name on tasks (name, model, created_at);

create table answers (
  request_hash text not null check (request_hash glob 'r1:*' and length(request_hash) = 67),  -- identity of `request`: model, messages, parameters
  attempt integer not null check (attempt >= 0),  -- the how-manieth answer wanted to this request
  try integer not null check (try >= 0),  -- the how-manieth that came for it; the newest that is no fault counts
  model text not null,  -- as asked
  host text not null,  -- who answered: host[:port], or `offline`
  finish_reason text,  -- as the server said; null where it said none
  prompt_tokens integer check (prompt_tokens >= 0),  -- null here and below: the server did not say
  cached_tokens integer check (cached_tokens >= 0),  -- part of the prompt that the server had in its cache
  completion_tokens integer check (completion_tokens >= 0),  -- reasoning included
  reasoning_tokens integer check (reasoning_tokens >= 0),  -- part of the completion
  cost_usd real check (cost_usd >= 0),  -- US dollars, as the server said
  latency_ms real not null check (latency_ms >= 0),  -- request sent to body read; retries and waits left out
  run_id integer not null references runs (id),  -- the run that paid for it
  answered_at text not null,  -- when it was stored
  fault text,  -- why the body is no completion; null where it is one
  refusal text,  -- the server's own field; null where it is empty
  content text,  -- the text of the answer; null where there is none
  reasoning text,  -- reasoning beside the content; null where there is none
  sent text check (sent is null or json_valid(sent)),  -- the body that went out, where it differs from `request`
  request text not null check (json_valid(request)),  -- the body as asked
  response text not null,  -- the body that came back, raw and whole
  primary key (request_hash, attempt, try)
) strict;

-- What was spent, without touching the wide rows.
create index answers_by_run on answers (
  run_id, model, answered_at, cost_usd, prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens
);

create table outcomes (
  sample_hash text not null references samples (hash),  -- the sample that was asked about
  task_hash text not null references tasks (hash),  -- the task that asked
  attempt integer not null check (attempt >= 0),  -- the how-manieth answer wanted to the same request, from 0
  status text not null check (status in ('ok', 'unparsed', 'refused', 'truncated', 'failed')),  -- what became of it
  try integer,  -- which try of the request settled it; null where none was sent
  request_hash text,  -- the request whose answer settled it; null where none was sent
  parser_version text not null,  -- of the reader that decided: code version and hash of its settings
  decided_at text not null,  -- when it was concluded
  reason text check ((reason is null) = (status = 'ok')),  -- why it is not ok
  value text check ((value is not null) = (status = 'ok')),  -- the answer as read: a rating, a text; null unless ok
  primary key (task_hash, sample_hash, attempt)
) strict, without rowid;

-- What failed and why, without reading what did not.
create index outcomes_not_ok on outcomes (task_hash, status, reason, sample_hash, attempt) where status <> 'ok';

create table lengths (
  sample_hash text not null references samples (hash),  -- the sample that was measured
  tokenizer text not null,  -- name or folder, as given
  template_hash text not null,  -- of chat template, tokenizer files and how fields were mapped
  prompt_tokens integer check (prompt_tokens >= 0),  -- up to where the completion begins; null where refused
  completion_tokens integer check (completion_tokens >= 0),  -- what the trainer learns, reasoning included; null where refused
  total_tokens integer check (total_tokens >= 0),  -- the whole rendered text; null where refused
  unreached text check (unreached is null or json_valid(unreached)),  -- JSON list of fields whose text the rendered text lacks; null where all is in it
  refusal text,  -- why the template did not take the row; null where it was measured
  check ((refusal is null) = (total_tokens is not null)),
  check ((prompt_tokens is null) = (total_tokens is null) and (completion_tokens is null) = (total_tokens is null)),
  primary key (tokenizer, template_hash, sample_hash)
) strict, without rowid;

-- How many samples have which length, in the order of lengths.
create index lengths_by_total on lengths (tokenizer, template_hash, total_tokens);
-- What is wrong, without reading what is not.
create index lengths_at_fault on lengths (tokenizer, template_hash) where unreached is not null or refusal is not null;

create table settings (
  key text primary key,  -- min_reward, split_by, split_seed, split_share
  value any not null  -- number or text
) strict, without rowid;

insert into settings (key, value)
values
  ('min_reward', 0.85),  -- rewards above it count as good
  ('split_by', 'code'),  -- code or name: what keeps rows of one module together
  ('split_seed', 42),  -- permutes the points that place samples in a split
  ('split_share', 0.1);  -- share of validation, 0 to 1
