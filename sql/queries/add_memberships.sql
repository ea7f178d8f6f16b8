-- Puts samples at places of a source. :source_id   :places JSON list of [position, sample_hash]
insert into source_samples (source_id, position, sample_hash)
select
  :source_id,
  place.value ->> 0,
  place.value ->> 1
from json_each(:places) as place
