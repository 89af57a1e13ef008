-- Blood gases by admission and time, the mean of equal times; not those of times with two or more specimens.
select l.hadm_id, l.charttime, i.feature, avg(l.valuenum::decimal(18, 6))::decimal(18, 6) as value
from labevents as l
join items as i on i.itemid = l.itemid and i.origin = 'bg'
where l.hadm_id in (select hadm_id from hospital)
    and l.valuenum > i.low
    and (l.hadm_id, l.charttime) not in (
        select hadm_id, charttime
        from labevents
        where itemid = 50800 and hadm_id is not null and charttime is not null
        group by hadm_id, charttime
        having count(*) >= 2
    )
group by l.hadm_id, l.charttime, i.feature
