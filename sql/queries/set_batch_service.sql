-- Which service a batch file is about to be submitted to. :id   :base_url, :api_key_var, :headers without secrets
update batches
set base_url = :base_url, api_key_var = :api_key_var, headers = :headers
where id = :id
