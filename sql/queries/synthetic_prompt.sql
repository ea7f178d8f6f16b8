-- The prompt that the view `synthetic` has for a module. :sample_hash
select synthetic.prompt
from synthetic
where synthetic.sample_hash = :sample_hash
