-- How many rows of the running ingest are samples of each kind.
select samples.kind, count(*) as rows
from incoming_samples
join samples on samples.hash = incoming_samples.sample_hash
group by samples.kind
order by samples.kind
