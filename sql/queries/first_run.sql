-- The command of the first run of a store.
select runs.command
from runs
order by runs.id
limit 1
