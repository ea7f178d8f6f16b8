-- 1 where a request is out in a batch file, else 0.
select exists (select 1 from handed_out where handed_out.ending is null)
