-- Reserves the most that one try may take: :tokens, :cost_usd in US dollars (null: the run knows no price).
insert into reservations (run_id, request_hash, attempt, model, tokens, cost_usd, reserved_at)
values (:run_id, :request_hash, :attempt, :model, :tokens, :cost_usd, :reserved_at)
