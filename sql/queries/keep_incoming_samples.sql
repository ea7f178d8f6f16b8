-- Gives the samples of the running ingest to a source. Those that go after its last position are only those
-- that it lacks. :source_id   :first position of the first row
insert into source_samples (source_id, position, sample_hash)
select :source_id, :first + incoming_samples.position, incoming_samples.sample_hash
from incoming_samples
where :first = 0
  or not exists (
    select 1
    from source_samples
    where source_samples.sample_hash = incoming_samples.sample_hash
      and source_samples.source_id = :source_id
      and source_samples.position < :first
  )
order by incoming_samples.position
on conflict (source_id, position) do nothing
