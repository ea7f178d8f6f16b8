-- Forgets what reading answers again would conclude.
drop table if exists temp.read_again
