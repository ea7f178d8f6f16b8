-- Whether a sample is a module or a rollout. :sample_hash
select samples.kind
from samples
where samples.hash = :sample_hash
