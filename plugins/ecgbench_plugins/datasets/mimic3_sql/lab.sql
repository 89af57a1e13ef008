-- Laboratory values by patient and time, the mean of equal times, of the admission within whose borders they lie.
with means as (
    select l.subject_id, l.charttime, i.feature, avg(l.valuenum::decimal(18, 6))::decimal(18, 6) as value
    from labevents as l
    join items as i on i.itemid = l.itemid and i.origin = 'lab'
    where l.subject_id in (select subject_id from hospital)
        and l.valuenum > i.low and (i.high is null or l.valuenum <= i.high)
    group by l.subject_id, l.charttime, i.feature
)
select b.hadm_id, m.charttime, m.feature, m.value
from means as m
join borders as b on b.subject_id = m.subject_id and m.charttime >= b.begins and m.charttime < b.ends
where b.hadm_id in (select hadm_id from hospital)
