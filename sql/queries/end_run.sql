-- A command ended. :status exit status   :counts JSON object   :cost_usd US dollars, null where unknown
update runs
set
  status = :status,
  ended_at = :ended_at,
  counts = :counts,
  cost_usd = :cost_usd
where id = :run_id
