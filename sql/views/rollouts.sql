-- One row per rollout, whatever tool and version wrote it. completion is the last assistant text that is not
-- empty, reasoning the text of all its reasoning, joined by a blank line; null where the file holds none.
-- Content may be text or a list of parts, whose texts are joined. What is said in other shapes, and thoughts that
-- stand in a text, were found when the row came in (rollout_facts.other_completion, other_reasoning), and so was
-- where the completion stands, if that is not in the field of that name (rollout_facts.completion_path).
-- model and environment are those of its sources, where these agree, else what the row itself says; null where
-- two runs of different models brought the very same rollout. error is its kind, such as ModelError.
create view rollouts as
select
  samples.hash as sample_hash,
  samples.module_name as module_name,
  (
    select
      case
        when min(sources.model) is null
          then iif(rollout_facts.sample_hash is null, samples.row ->> '$.model', rollout_facts.model)
        when min(sources.model) = max(sources.model) then min(sources.model)
      end
    from source_samples
    cross join sources on sources.id = source_samples.source_id
    where source_samples.sample_hash = samples.hash
  ) as model,
  (
    select
      case
        when min(sources.environment) is null
          then iif(rollout_facts.sample_hash is null, samples.row ->> '$.env_id', rollout_facts.environment)
        when min(sources.environment) = max(sources.environment) then min(sources.environment)
      end
    from source_samples
    cross join sources on sources.id = source_samples.source_id
    where source_samples.sample_hash = samples.hash
  ) as environment,
  iif(rollout_facts.sample_hash is null, samples.row ->> '$.example_id', rollout_facts.example_id) as example_id,
  coalesce(
    (select scores.reward from scores where scores.sample_hash = samples.hash order by scores.id desc limit 1),
    samples.reward
  ) as reward,
  case
    when rollout_facts.other_completion is not null then nullif(rollout_facts.other_completion, '')
    when json_type(samples.row, coalesce(rollout_facts.completion_path, '$.completion')) = 'text'
      then samples.row ->> coalesce(rollout_facts.completion_path, '$.completion')
    when json_type(samples.row, coalesce(rollout_facts.completion_path, '$.completion')) = 'array' then (
      select said.text
      from (
        select
          message.key as place,
          case json_type(message.value, '$.content')
            when 'text' then message.value ->> '$.content'
            when 'array' then (
              select group_concat(
                case part.type
                  when 'text' then part.atom
                  when 'object' then iif(json_type(part.value, '$.text') = 'text', part.value ->> '$.text', null)
                end,
                ''
              )
              from json_each(message.value, '$.content') as part
            )
          end as text
        from json_each(samples.row, coalesce(rollout_facts.completion_path, '$.completion')) as message
        where iif(message.type = 'object', message.value ->> '$.role', null) = 'assistant'
      ) as said
      where said.text <> ''
      order by said.place desc
      limit 1
    )
  end as completion,
  coalesce(
    (select other_reasoning.reasoning from other_reasoning where other_reasoning.sample_hash = samples.hash),
    case json_type(samples.row, coalesce(rollout_facts.completion_path, '$.completion'))
      when 'array' then (
        select group_concat(thought.text, char(10, 10))
        from (
          select (
            select held.text
            from (
              select
                field.key as key,
                case field.type
                  when 'text' then field.atom
                  when 'array' then (
                    select group_concat(
                      case part.type
                        when 'text' then part.atom
                        when 'object' then iif(json_type(part.value, '$.text') = 'text', part.value ->> '$.text', null)
                      end,
                      ''
                    )
                    from json_each(field.value) as part
                  )
                end as text
              from json_each(message.value) as field
              where field.key in ('reasoning', 'reasoning_content')
            ) as held
            where trim(held.text, char(9, 10, 13, 32)) <> ''
            order by held.key
            limit 1
          ) as text
          from json_each(samples.row, coalesce(rollout_facts.completion_path, '$.completion')) as message
          where iif(message.type = 'object', message.value ->> '$.role', null) = 'assistant'
          order by message.key
        ) as thought
      )
    end
  ) as reasoning,
  iif(rollout_facts.sample_hash is null, samples.row ->> '$.finish_reason', rollout_facts.finish_reason)
    as finish_reason,
  iif(rollout_facts.sample_hash is null, samples.row ->> '$.error', rollout_facts.error) as error
from samples
left join rollout_facts on rollout_facts.sample_hash = samples.hash
where samples.kind = 'rollout'
