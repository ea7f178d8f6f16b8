-- Reasoning that stands beside the messages of a rollout, unless it is there. :sample_hash   :reasoning
insert into other_reasoning (sample_hash, reasoning)
values (:sample_hash, :reasoning)
on conflict (sample_hash) do nothing
