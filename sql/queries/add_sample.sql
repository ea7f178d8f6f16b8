-- Stores a sample, unless it is there. Columns as in `samples`.
insert into samples (hash, kind, module_name, code_hash, code_point, name_point, reward, nonfinite, row)
values (:hash, :kind, :module_name, :code_hash, :code_point, :name_point, :reward, :nonfinite, :row)
on conflict (hash) do nothing
