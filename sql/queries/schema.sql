-- name: columns_of
-- The columns of a table or view in order, with their types; a view has none of its own. :relation its name
select
  columns.name,
  lower(columns.type) as type
from pragma_table_xinfo(:relation) as columns
order by columns.cid

-- name: relations
-- The tables and views of a store, tables first, by name.
select
  relations.name,
  relations.type
from sqlite_schema as relations
where relations.type in ('table', 'view')
  and relations.name not like 'sqlite\_%' escape '\'
order by relations.type, relations.name

-- name: known_names
-- The names of all tables and views, and of all their columns, each once.
select relations.name
from sqlite_schema as relations
where relations.type in ('table', 'view')
union
select columns.name
from sqlite_schema as relations
join pragma_table_xinfo(relations.name) as columns
where relations.type in ('table', 'view')
order by 1
