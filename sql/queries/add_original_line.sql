-- A line of a run's file, unless it is there. :hash SHA-256 of the line   :line
insert into original_lines (hash, line)
values (:hash, :line)
on conflict (hash) do nothing
