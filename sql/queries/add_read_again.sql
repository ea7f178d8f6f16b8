-- One outcome to be changed.
insert into temp.read_again (task_hash, sample_hash, attempt, status, value, reason, parser_version)
values (:task_hash, :sample_hash, :attempt, :status, :value, :reason, :parser_version)
