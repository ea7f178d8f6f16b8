-- The first place of a source that is free to its end. :source_id
select coalesce(max(source_samples.position) + 1, 0) as position
from source_samples
where source_samples.source_id = :source_id
