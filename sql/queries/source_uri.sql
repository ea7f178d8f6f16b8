-- What a source is read from. :name
select sources.uri
from sources
where sources.name = :name
