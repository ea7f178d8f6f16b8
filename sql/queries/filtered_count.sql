-- Rows of the dataset `filtered`.
select count(*) as samples
from filtered
