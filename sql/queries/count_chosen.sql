-- How many samples a run is about.
select count(*)
from temp.chosen
