-- The cohort of the public reimplementation of Sun et al. 2018: admissions measured at three times or more, with exactly 48
-- full hours, from the first measurement to the last, in the closed window of 48 hours that begins in the ICU.
with windows as (
    select *,
        greatest(first_hour, date_trunc('hour', intime + interval 1 hour - interval 1 microsecond)) as begins,
        least(last_hour, date_trunc('hour', intime + interval 48 hours)) as ends
    from course
    where times > 2
)
select hadm_id, subject_id, died, begins
from windows
where datediff('hour', begins, ends) + 1 = 48
