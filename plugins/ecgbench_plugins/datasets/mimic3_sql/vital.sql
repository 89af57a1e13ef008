-- Vital signs by stay and time, the mean of equal times; not those that are marked as errors.
select s.hadm_id, c.charttime, i.feature,
    avg((case when i.fahrenheit then (c.valuenum - 32) / 1.8 else c.valuenum end)::decimal(18, 6))::decimal(18, 6) as value
from chartevents as c
join items as i on i.itemid = c.itemid and i.origin = 'vital'
join stays as s on s.icustay_id = c.icustay_id
where (c.error is null or c.error <> 1)
    and c.valuenum > i.low
    and (c.valuenum < i.high or (i.closed and c.valuenum = i.high))
group by s.icustay_id, s.hadm_id, c.charttime, i.feature
