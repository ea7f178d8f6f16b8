-- One more request of the batch. :custom_id   :body JSON
insert into temp.batch_requests (custom_id, body)
values (:custom_id, :body)
