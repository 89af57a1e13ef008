-- From when to when a value of LABEVENTS belongs to an admission: 12 hours more at either end, half the time to the next
-- admission of the patient where that is less than 24 hours away.
with neighbours as (
    select subject_id, hadm_id, admittime, dischtime,
        admittime - lag(dischtime) over patient as since_last,
        lead(admittime) over patient - dischtime as until_next
    from admissions
    window patient as (partition by subject_id order by admittime)
)
select subject_id, hadm_id,
    case when since_last < interval 24 hours then admittime - since_last / 2 else admittime - interval 12 hours end as begins,
    case when until_next < interval 24 hours then dischtime + until_next / 2 else dischtime + interval 12 hours end as ends
from neighbours
