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
