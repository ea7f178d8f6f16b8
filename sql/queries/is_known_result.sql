-- Whether a result was read before: a row, or none. :result_hash
select 1
from batch_results
where batch_results.result_hash = :result_hash
