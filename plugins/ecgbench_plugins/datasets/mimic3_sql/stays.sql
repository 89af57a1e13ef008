-- ICU stays of adults, of a whole day or more in the ICU and in hospital (complete days, as date_part('day', ...)).
select i.icustay_id, i.hadm_id, i.subject_id, i.intime, a.hospital_expire_flag as died
from icustays as i
join admissions as a using (hadm_id)
join patients as p on p.subject_id = i.subject_id
where a.has_chartevents_data = 1
    and datesub('year', p.dob, i.intime) >= 18
    and datesub('day', a.admittime, a.dischtime) >= 1
    and datesub('day', i.intime, i.outtime) >= 1
