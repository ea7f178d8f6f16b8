-- How many samples have each difficulty, among all that were rated `ok` and among `filtered`.
select
  ratings.difficulty,
  count(*) as samples,
  coalesce(sum(
    ratings.reward > (select settings.value from settings where settings.key = 'min_reward')
  ), 0) as good
from ratings
where ratings.status = 'ok'
group by ratings.difficulty
order by ratings.difficulty
