-- The worst case of each request of the batch file that is being written, where a budget reserves it.
select
  handing.request_hash,
  handing.attempt,
  handing.tokens,
  handing.pusd
from temp.handing
where handing.tokens is not null
order by handing.line
