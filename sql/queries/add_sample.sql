-- Stores a sample, unless it is there. Columns as in `samples`; :row as UTF-8.
insert into samples (hash, kind, module_name, code_hash, code_point, name_point, reward, nonfinite, row)
values (:hash, :kind, :module_name, :code_hash, :code_point, :name_point, :reward, :nonfinite, cast(:row as text))
on conflict (hash) do nothing
