-- One more run in a row that a sample failed in, where it had failed before; else nothing.
-- :sample_hash   :task_hash   :attempt
update outcomes
set failures = failures + 1
where sample_hash = :sample_hash
  and task_hash = :task_hash
  and attempt = :attempt
  and status = 'failed'
