-- Admissions with their stays of `stays`: the first time in an ICU, and whether the patient died in hospital.
select hadm_id, any_value(subject_id) as subject_id, min(intime) as intime, max(died) as died
from stays
group by hadm_id
