-- Takes back from older batch files the requests that the new one holds. :ended_at
update handed_out
set ending = 'released', ended_at = :ended_at
where handed_out.ending is null
  and exists (
    select 1
    from temp.handing
    where handing.request_hash = handed_out.request_hash
      and handing.attempt = handed_out.attempt
  )
