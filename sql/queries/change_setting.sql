-- Changes a setting that is there. :key its name   :value the new value
update settings
set value = :value
where key = :key
