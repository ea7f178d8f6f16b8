-- A row of the running ingest is rejected. :position from 0   :location FILE:LINE   :reason
insert into incoming_rejections (position, location, reason)
values (:position, :location, :reason)
