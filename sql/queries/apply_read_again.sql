-- Puts the new conclusions in place of the old ones. :decided_at UTC, ISO 8601
update outcomes
set
  status = read_again.status,
  value = read_again.value,
  reason = read_again.reason,
  parser_version = read_again.parser_version,
  decided_at = :decided_at
from temp.read_again as read_again
where outcomes.task_hash = read_again.task_hash
  and outcomes.sample_hash = read_again.sample_hash
  and outcomes.attempt = read_again.attempt
