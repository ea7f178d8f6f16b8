-- Notes a reward, unless its rollout has one in the same file; says what is noted. :sample_hash, :reward, :line
insert into temp.scored (sample_hash, reward, line)
values (:sample_hash, :reward, :line)
on conflict (sample_hash) do update
set line = scored.line
returning reward, line
