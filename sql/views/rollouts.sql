-- One row per rollout, whatever tool and version wrote it. completion is the last assistant text, reasoning
-- the text of all its reasoning, joined by a blank line; null where the file holds none.
create view rollouts as
select
  samples.hash as sample_hash,
  samples.module_name as module_name,
  samples.row ->> '$.model' as model,
  samples.row ->> '$.env_id' as environment,
  samples.row ->> '$.example_id' as example_id,
  coalesce(
    (select scores.reward from scores where scores.sample_hash = samples.hash order by scores.id desc limit 1),
    samples.reward
  ) as reward,
  case json_type(samples.row, '$.completion')
    when 'text' then samples.row ->> '$.completion'
    else (
      select
        case json_type(message.value, '$.content')
          when 'text' then message.value ->> '$.content'
          else (
            select group_concat(case part.type when 'text' then part.atom else part.value ->> '$.text' end, '')
            from json_each(message.value, '$.content') as part
          )
        end as text
      from json_each(samples.row, '$.completion') as message
      where message.value ->> '$.role' = 'assistant'
        and coalesce(message.value ->> '$.content', '') <> ''
        and coalesce(message.value ->> '$.content', '') <> '[]'
      order by message.key desc
      limit 1
    )
  end as completion,
  (
    select group_concat(ordered.text, char(10, 10))
    from (
      select
        coalesce(nullif(message.value ->> '$.reasoning', ''), nullif(message.value ->> '$.reasoning_content', '')) as text
      from json_each(samples.row, '$.completion') as message
      where json_type(samples.row, '$.completion') = 'array'
        and message.value ->> '$.role' = 'assistant'
      order by message.key
    ) as ordered
  ) as reasoning,
  samples.row ->> '$.finish_reason' as finish_reason,
  samples.row ->> '$.error' as error
from samples
where samples.kind = 'rollout'
