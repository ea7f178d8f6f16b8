-- The id of a source. :name
select sources.id
from sources
where sources.name = :name
