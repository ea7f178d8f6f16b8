-- Gives a reservation back: its answer told what it took, or nothing was billed. :id
delete from reservations
where id = :id
