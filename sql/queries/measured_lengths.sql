-- 1 if any length was measured, else 0.
select exists (select 1 from lengths) as measured
