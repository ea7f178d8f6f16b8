-- Whether a row of this content was rejected before. :content_hash SHA-256, null for none
select exists (
  select 1
  from rejected_rows
  where rejected_rows.content_hash = :content_hash
)
