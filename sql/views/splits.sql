-- Which side each sample is on: `train` or `validation`. Plain arithmetic on a point that comes from the
-- module's code (split_by code) or name (split_by name): rows of one module are together, and adding rows
-- moves none. The seed permutes the points; the share of validation is split_share.
create view splits as
with rule as (
  select
    (select settings.value from settings where settings.key = 'split_by') as split_by,
    ((((select settings.value from settings where settings.key = 'split_seed') & 2147483647) * 2654435761) & 2147483647) | 1
      as factor,
    (select settings.value from settings where settings.key = 'split_share') * 2147483648 as bound
)
select
  samples.hash as sample_hash,
  case
    when ((case rule.split_by when 'name' then samples.name_point else samples.code_point end) * rule.factor)
      & 2147483647 < rule.bound
    then 'validation'
    else 'train'
  end as split
from samples
cross join rule
