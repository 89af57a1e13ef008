-- What cannot be in the tables that say who was admitted: a row that stands twice, one whose owner is missing, no date of
-- birth, a death that is neither 0 nor 1. The table, and the fault in words.
select 'PATIENTS' as source, concat('patient ', subject_id, ' stands there ', count(*), ' times') as fault
from patients
group by subject_id
having count(*) > 1
union all
select 'ADMISSIONS', concat('admission ', hadm_id, ' stands there ', count(*), ' times')
from admissions
group by hadm_id
having count(*) > 1
union all
select 'ICUSTAYS', concat('ICU stay ', icustay_id, ' stands there ', count(*), ' times')
from icustays
group by icustay_id
having count(*) > 1
union all
select 'PATIENTS', concat('patient ', subject_id, ' has no date of birth')
from patients
where dob is null
union all
select 'ADMISSIONS', concat('admission ', hadm_id, ' has a HOSPITAL_EXPIRE_FLAG that is neither 0 nor 1')
from admissions
where hospital_expire_flag is null or hospital_expire_flag not in (0, 1)
union all
select 'ADMISSIONS', concat('admission ', hadm_id, ' is of patient ', subject_id, ', who is not in PATIENTS')
from admissions
anti join patients using (subject_id)
union all
select 'ICUSTAYS',
    concat('ICU stay ', icustay_id, ' is of admission ', hadm_id, ' of patient ', subject_id, ', which is not in ADMISSIONS')
from icustays
anti join admissions using (subject_id, hadm_id)
order by all
limit 1
