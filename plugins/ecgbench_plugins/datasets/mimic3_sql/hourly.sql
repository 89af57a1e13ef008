-- The mean of every hour of the cohort's windows, as far as there is one.
select c.hadm_id, datediff('hour', c.begins, m.charttime) as hour, m.feature, avg(m.value) as value
from cohort as c
join measured as m on m.hadm_id = c.hadm_id
    and m.charttime >= c.begins and m.charttime < c.begins + interval 48 hours
group by all
