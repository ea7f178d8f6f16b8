-- Every setting.
select settings.key, settings.value
from settings
order by settings.key
