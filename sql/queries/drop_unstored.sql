-- Forgets the prompts of the dry run before.
drop table if exists temp.unstored
