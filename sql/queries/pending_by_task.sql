-- What a plain run would ask, by task in use and reason.
select
  pending.task,
  pending.why,
  count(*) as samples
from pending
group by pending.task, pending.why
order by pending.task, pending.why desc
