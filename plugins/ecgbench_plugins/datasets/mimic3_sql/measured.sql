-- All that was measured during the admissions, of the measurements that the cohort reads. Values are decimals: their means
-- do not hang on the order of rows, so every run gives the same bytes.
select hadm_id, charttime, feature, value
from (select * from bg union all select * from lab union all select * from vital)
where feature in (select feature from features) and charttime is not null
