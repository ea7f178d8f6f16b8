-- Schema 2: rollouts that were generated here.

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
