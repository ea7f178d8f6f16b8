-- The value of a setting, no row where there is none. :key its name
select settings.value
from settings
where settings.key = :key
