-- Remembers which samples the lines of the running ingest are. Once, at the end and in the order of the table:
-- with each batch, nearly every page of a large one would be written again.
insert into known_lines (line_hash, sample_hash)
select incoming_samples.line_hash, incoming_samples.sample_hash
from incoming_samples
where incoming_samples.line_hash is not null
order by incoming_samples.line_hash
on conflict (line_hash) do nothing
