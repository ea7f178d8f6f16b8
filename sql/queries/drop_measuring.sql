-- Drops what an earlier command on this connection chose.
drop table if exists temp.measuring
