-- The cohort of the later study of adversarial attacks on LSTMs: as sun2018, in the open window of 48 hours.
with windows as (
    select *,
        greatest(first_hour, date_trunc('hour', intime + interval 1 hour)) as begins,
        least(last_hour, date_trunc('hour', intime + interval 48 hours - interval 1 microsecond)) as ends
    from course
    where times > 2
)
select hadm_id, subject_id, died, begins
from windows
where datediff('hour', begins, ends) + 1 >= 48
