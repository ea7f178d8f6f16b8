-- Outcomes of the tasks in use that are not ok, the most frequent reasons first.
select
  failures.task,
  failures.status,
  failures.reason,
  count(*) as samples
from failures
where failures.in_use = 1
group by failures.task, failures.status, failures.reason
order by samples desc, failures.task, failures.status, failures.reason
