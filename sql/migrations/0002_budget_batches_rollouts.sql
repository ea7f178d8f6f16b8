-- Schema 2: rollouts that were generated here, what recorded runs say of themselves and of theirs, prices and
-- reservations of the budget.

create table generations (
  source_id integer not null references sources (id),  -- the source of kind run that holds the rollout
  position integer not null check (position >= 0),  -- its place there: source_samples says which sample it is
  task_hash text not null references tasks (hash),  -- the task that asked
  problem_hash text not null references samples (hash),  -- the sample that was asked about
  attempt integer not null check (attempt >= 0),  -- the how-manieth answer wanted to the same request
  request_hash text not null,  -- the request
  try integer not null check (try >= 0),  -- which try of it the rollout is
  primary key (source_id, position)
) strict, without rowid;

-- Which attempts at a problem have become rollouts, each answer once.
create unique index generations_by_answer on generations (task_hash, problem_hash, attempt, request_hash, try);

alter table sources add column
  model text;  -- the model whose rollouts it holds, as its run says; null where no run says one
alter table sources add column
  environment text;  -- the environment that they are attempts in; null likewise
alter table sources add column
  run text check (run is null or json_valid(run));  -- JSON object: tool, version and settings of the run; null where it is none

create table rollout_facts (
  sample_hash text primary key references samples (hash),  -- the rollout; all below is read from its row when it comes in
  is_empty integer not null check (is_empty in (0, 1)),  -- 1: no assistant message has text, so there is nothing to rate
  example_id any,  -- which example of its environment it is an attempt at; null where the row does not say, here and below
  model text,  -- as the row itself says; the view `rollouts` knows what the run says too
  environment text,  -- likewise
  finish_reason text,  -- why the last answer ended: stop, length, tool_calls, ...
  stop_condition text,  -- why the rollout ended: max_turns_reached, has_error, prompt_too_long, ...
  is_truncated integer check (is_truncated in (0, 1)),  -- 1: cut by a limit on tokens
  error text,  -- kind of error, such as ModelError; null where there was none
  prompt_tokens integer check (prompt_tokens >= 0),  -- of all its answers, cached ones included
  cached_tokens integer check (cached_tokens >= 0),  -- part of the prompts that the server had in its cache
  completion_tokens integer check (completion_tokens >= 0),  -- reasoning included
  reasoning_tokens integer check (reasoning_tokens >= 0),  -- part of the completions
  generation_ms real,  -- from its beginning to the last answer
  scoring_ms real,  -- of its reward functions
  total_ms real,  -- both, and what lies between
  rewards text check (rewards is null or json_valid(rewards)),  -- JSON object of the parts of the reward: score and weight by name
  metrics text check (metrics is null or json_valid(metrics)),  -- JSON object of numbers by name
  error_text text,  -- what the tool says of the error
  has_labels integer check (has_labels in (0, 1))  -- 1: the row has a column difficulty or evaluation_raw itself; null where nobody looked
) strict, without rowid;

-- Rows stored before this schema: what their JSON says at once; tokens and times come with a row that is stored anew.
insert into rollout_facts (sample_hash, is_empty, example_id, model, environment, finish_reason, error)
select
  samples.hash,
  case json_type(samples.row, '$.completion')
    when 'text' then trim(samples.row ->> '$.completion', char(9, 10, 13, 32)) = ''
    when 'array' then not exists (
      select 1
      from json_each(samples.row, '$.completion') as message
      where iif(message.type = 'object', message.value ->> '$.role', null) = 'assistant'
        and (
          trim(iif(json_type(message.value, '$.content') = 'text', message.value ->> '$.content', ''), char(9, 10, 13, 32)) <> ''
          or json_type(message.value, '$.content') = 'array'
        )
    )
    else 1
  end,
  samples.row ->> '$.example_id',
  samples.row ->> '$.model',
  samples.row ->> '$.env_id',
  samples.row ->> '$.finish_reason',
  samples.row ->> '$.error'
from samples
where samples.kind = 'rollout';

create table other_reasoning (
  sample_hash text primary key references samples (hash),  -- a rollout whose messages lack reasoning that its row has elsewhere
  reasoning text not null  -- all its reasoning, wherever it stands, joined by a blank line
) strict;

create table originals (
  sample_hash text primary key references samples (hash),  -- a sample whose row is not the line that it came from
  position integer not null check (position >= 0),  -- which rollout of that line it is, from 0
  line_hash blob not null references original_lines (hash)  -- that line
) strict;

create table original_lines (
  hash blob primary key check (length(hash) = 32),  -- SHA-256 of the line
  line text not null  -- the line of the run's file, whole and as it stood there
) strict;

create table batches (
  id integer primary key,  -- in the order in which they were written
  run_id integer not null references runs (id),  -- the run that wrote it
  task_hash text not null references tasks (hash),  -- the task whose requests it holds
  model text not null,  -- the one model that its requests ask
  file text not null,  -- path of the input file, as it was written
  file_hash text not null check (length(file_hash) = 64),  -- SHA-256 of its bytes in hex; a submitted batch carries it as metadata
  size_bytes integer not null check (size_bytes > 0),  -- of the input file
  requests integer not null check (requests > 0),  -- lines of the input file
  written_at text,  -- when the file got its name; null: recorded, and still beside its place
  base_url text,  -- the server that it was submitted to; null here and below: it was not
  api_key_var text,  -- name of the environment variable that holds the key; null without one
  headers text check (headers is null or json_valid(headers)),  -- JSON list of `Name: $VARIABLE`, without values
  input_file_id text,  -- the server's id of the uploaded file
  create_began_at text,  -- when the server was about to be asked to begin; null: never
  server_id text,  -- the server's id of the batch
  server_status text,  -- as the server last said: validating, in_progress, completed, ...
  checked_at text,  -- when it said so
  output_file_id text,  -- the server's file of answers
  error_file_id text,  -- the server's file of errors
  fetched_at text  -- when all that the server has was read
) strict;

create table handed_out (
  id integer primary key,  -- in the order in which they were handed out
  batch_id integer not null references batches (id),  -- the file that it stands in
  request_hash text not null check (request_hash glob 'r1:*' and length(request_hash) = 67),  -- the request
  attempt integer not null check (attempt >= 0),  -- the how-manieth answer wanted to it
  custom_id text not null,  -- both, as they stand in the file
  ending text check (ending in ('answered', 'failed', 'expired', 'released')),  -- null: still out, and asked by nobody else; released: taken back
  ended_at text check ((ended_at is null) = (ending is null)),  -- when that was known
  request text check (request is null or json_valid(request))  -- the body as asked; null once answered, when `answers` has it
) strict;

-- A request is out once at a time.
create unique index handed_out_now on handed_out (request_hash, attempt) where ending is null;
create index handed_out_by_request on handed_out (request_hash, attempt, id, batch_id, ending);
create index handed_out_by_batch on handed_out (batch_id, ending);

create table handed_out_samples (
  sample_hash text not null references samples (hash),  -- a sample that an answer settles
  task_hash text not null references tasks (hash),  -- the task that asks
  handed_out_id integer not null references handed_out (id),  -- the request that was handed out
  primary key (sample_hash, task_hash, handed_out_id)
) strict, without rowid;

create index handed_out_samples_by_request on handed_out_samples (handed_out_id);

create table batch_results (
  result_hash blob primary key check (length(result_hash) = 32),  -- SHA-256 of a result's canonical JSON: read once, known for ever
  handed_out_id integer not null references handed_out (id),  -- the request that it is about
  result_id text,  -- the id that the server gave it; null without one
  try integer,  -- the answer that it brought; null for an error
  reason text check ((reason is null) = (try is not null)),  -- the error; null for an answer
  run_id integer not null references runs (id),  -- the run that read it
  read_at text not null  -- when it was read
) strict, without rowid;

create table prices (
  run_id integer not null references runs (id),  -- the run that reckoned with it
  model text not null check (model <> ''),  -- as asked
  input_usd real not null check (input_usd >= 0),  -- US dollars per million prompt tokens
  cached_input_usd real not null check (cached_input_usd >= 0),  -- the same for those that the server had in its cache
  output_usd real not null check (output_usd >= 0),  -- US dollars per million completion tokens, reasoning included
  below_prompt_tokens integer check (below_prompt_tokens > 0),  -- holds for prompts with fewer tokens; null for all
  source text not null check (source <> ''),  -- kbetl.toml, or the price list and its version
  primary key (run_id, model)
) strict, without rowid;

create table reservations (
  id integer primary key,  -- in the order in which they were made
  run_id integer not null references runs (id),  -- the run that sent the request, under a budget
  request_hash text not null check (request_hash glob 'r1:*' and length(request_hash) = 67),  -- the request
  attempt integer not null check (attempt >= 0),  -- the how-manieth answer wanted to it
  try integer check (try >= 0),  -- the answer that came and told no usage; null while none came
  model text not null,  -- as asked
  tokens integer not null check (tokens >= 0),  -- prompt and completion at most
  cost_usd real check (cost_usd >= 0),  -- US dollars at most; null where the run knew no price
  reserved_at text not null  -- when it was made; the request was sent after that
) strict;

-- What counts in full, by run; and whether an answer is among it.
create index reservations_by_run on reservations (run_id, model, reserved_at, tokens, cost_usd);
create index reservations_by_request on reservations (request_hash, attempt, try);

alter table outcomes add column
  failures integer not null default 0 check (failures >= 0);  -- runs in a row in which it failed; from the third on it is parked
