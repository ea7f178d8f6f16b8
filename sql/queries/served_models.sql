-- Answers whose reply names another model than was asked, by both names.
select answers.model, answers.served_model, count(*) as answers
from answers
where answers.served_model is not null
group by answers.model, answers.served_model
order by answers.model, answers.served_model
