-- The hours between an admission's first and last measurement, and at how many times something was measured.
with moments as (
    select distinct hadm_id, charttime from measured
)
select h.hadm_id, h.subject_id, h.intime, h.died, count(*) as times,
    date_trunc('hour', min(m.charttime)) as first_hour, date_trunc('hour', max(m.charttime)) as last_hour
from hospital as h
join moments as m using (hadm_id)
group by all
