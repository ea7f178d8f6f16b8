-- A dry run is about all prompts of its file, in their order.
insert into temp.chosen (sample_hash)
select unstored.sample_hash
from temp.unstored
order by unstored.position
