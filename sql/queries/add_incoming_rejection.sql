-- A row of the running ingest is rejected. :position from 0   :location FILE:LINE   :reason   :content_hash
insert into incoming_rejections (position, location, reason, content_hash)
values (:position, :location, :reason, :content_hash)
