-- How many rows the tables that only refer to others hold.
select 'memberships' as name, count(*) as rows from source_samples
union all
select 'outcomes', count(*) from outcomes
union all
select 'scores', count(*) from scores
union all
select 'lengths', count(*) from lengths
