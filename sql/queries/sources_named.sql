-- All sources: id and name, in the order in which they came.
select
  sources.id,
  sources.name
from sources
order by sources.id
