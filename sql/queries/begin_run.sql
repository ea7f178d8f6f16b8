-- A command began. :options JSON object   :task, :task_hash null where it asks about none
insert into runs (command, options, started_at, pid, task, task_hash, kbetl_version)
values (:command, :options, :started_at, :pid, :task, :task_hash, :kbetl_version)
