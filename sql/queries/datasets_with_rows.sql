-- Which datasets have a row: 1 or 0.
select 'rollouts' as dataset, exists (select 1 from samples where samples.kind = 'rollout') as has_rows
union all
select 'filtered', exists (select 1 from filtered)
union all
select 'synthetic', exists (select 1 from synthetic)
