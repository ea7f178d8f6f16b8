-- One more prompt of a file, unless the same stood there before. :sample_hash, :row
insert into temp.unstored (sample_hash, row)
values (:sample_hash, :row)
on conflict (sample_hash) do nothing
