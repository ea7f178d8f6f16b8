-- How many rows the tables hold that commands add to.
select 'samples' as name, count(*) as rows from samples
union all
select 'memberships', count(*) from source_samples
union all
select 'answers', count(*) from answers
union all
select 'outcomes', count(*) from outcomes
union all
select 'scores', count(*) from scores
union all
select 'lengths', count(*) from lengths
union all
select 'generations', count(*) from generations
union all
select 'batch files', count(*) from batches
union all
select 'batch results', count(*) from batch_results
union all
select 'reservations', count(*) from reservations
