-- The identity of a sample's PyTorch source; null without source. :sample_hash
select samples.code_hash
from samples indexed by samples_by_hash
where samples.hash = :sample_hash
