-- Says which answer a reservation is for that told no usage, so that it is counted once. :id   :try
update reservations
set try = :try
where id = :id
