-- Sources that a name or an address means. :name
select
  sources.id,
  sources.name
from sources
where sources.name = :name
  or sources.uri = :name
order by sources.id
