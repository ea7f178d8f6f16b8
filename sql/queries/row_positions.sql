-- The positions of a dataset's rows, in order.
select dataset_rows.position
from temp.dataset_rows
order by dataset_rows.position
