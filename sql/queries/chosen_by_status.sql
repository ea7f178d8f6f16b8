-- How many of the chosen samples have each status of a task. :task_hash   :attempts wanted about each
select
  outcomes.status,
  count(*) as samples
from temp.chosen
join outcomes
  on outcomes.sample_hash = chosen.sample_hash
  and outcomes.task_hash = :task_hash
  and outcomes.attempt < :attempts
group by outcomes.status
order by outcomes.status
