-- Forgets a batch file that was written, or given up.
drop table if exists temp.handing
