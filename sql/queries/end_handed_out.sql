-- What became of a request in a batch file. :id   :ending   :ended_at
update handed_out
set
  ending = :ending,
  ended_at = :ended_at,
  request = iif(:ending = 'answered', null, request)
where id = :id
