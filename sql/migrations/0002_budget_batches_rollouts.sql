-- Schema 2: rollouts that were generated here, and what recorded runs say of themselves and of theirs.

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
  error_text text  -- what the tool says of the error
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
