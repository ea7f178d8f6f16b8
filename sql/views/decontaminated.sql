-- Samples without a pair of code to inside whose verdict is not `different`, and without one that a person calls the
-- same. Without a benchmark that is every sample: `kbetl contamination --against FILE` reads one.
create view decontaminated as
select samples.hash as sample_hash
from samples
where not exists (
    select 1
    from contamination
    where contamination.sample_hash = samples.hash
      and (
        contamination.verdict = 'same'
        or (contamination.how <> 'operators' and contamination.verdict is not 'different')
      )
  )
