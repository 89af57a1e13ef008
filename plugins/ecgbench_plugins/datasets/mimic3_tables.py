"""The tables of MIMIC-III (Johnson et al. 2016, Scientific Data 3), queried out of core with DuckDB.

The rules are SQL, a view in each file of `mimic3_sql`; this module finds the tables, reads their headers, and turns
what DuckDB says of a damaged one into a sentence.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import re
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import numpy as np

from ecgbench import DataError, DataRoot, EcgbenchError, NotInstalledError, StoreError
from ecgbench_plugins.datasets.icu_hours import HOURS, bridged

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

SOURCE = Path(__file__)
SQL = SOURCE.with_name("mimic3_sql")
RULES = "3a72a1e567f0f59ccd96570fecb0907aa93603c51916d38ad973fb72e98cd9a4"
MEMORY = "1GB"
LAYOUTS = (
    "mimiciii",
    "mimic-iii",
    "mimiciii/1.4",
    "files/mimiciii/1.4",
    "physionet.org/files/mimiciii/1.4",
    "mimic-iii-clinical-database-1.4",
)
HINT = "set ECGBENCH_DATA to the folder that holds mimiciii/ with the CSV files (gzipped or not) of MIMIC-III"
COLUMNS = {  # that are read, and their types
    "PATIENTS": {"SUBJECT_ID": "INTEGER", "DOB": "TIMESTAMP"},
    "ADMISSIONS": {
        **{"SUBJECT_ID": "INTEGER", "HADM_ID": "INTEGER", "ADMITTIME": "TIMESTAMP", "DISCHTIME": "TIMESTAMP"},
        **{"HOSPITAL_EXPIRE_FLAG": "INTEGER", "HAS_CHARTEVENTS_DATA": "INTEGER"},
    },
    "ICUSTAYS": {
        **{"SUBJECT_ID": "INTEGER", "HADM_ID": "INTEGER", "ICUSTAY_ID": "INTEGER"},
        **{"INTIME": "TIMESTAMP", "OUTTIME": "TIMESTAMP"},
    },
    "LABEVENTS": {
        **{"SUBJECT_ID": "INTEGER", "HADM_ID": "INTEGER", "ITEMID": "INTEGER"},
        **{"CHARTTIME": "TIMESTAMP", "VALUENUM": "DOUBLE"},
    },
    "CHARTEVENTS": {
        **{"ICUSTAY_ID": "INTEGER", "ITEMID": "INTEGER", "CHARTTIME": "TIMESTAMP"},
        **{"VALUENUM": "DOUBLE", "ERROR": "INTEGER"},
    },
}
REASONS = ("Error when converting", "Expected Number", "Value with", "Maximum line size")  # begins of DuckDB's own
EXPECTED = "expected the table as MIMIC-III has it"
VIEWS = ("items", "stays", "hospital", "borders", "bg", "lab", "vital")


def find_tables(root: DataRoot) -> dict[str, Path]:
    """The file of every table, .csv before .csv.gz. Raises DataError where one is missing."""
    folder = _folder(root)
    return {table: _table(folder, table) for table in COLUMNS}


def _folder(root: DataRoot) -> Path:
    first, *others = _spellings("ICUSTAYS")
    for marker in others:
        with suppress(DataError):
            return root.find("mimic3", marker, LAYOUTS, HINT)
    return root.find("mimic3", first, LAYOUTS, HINT)


def _spellings(table: str) -> tuple[str, ...]:
    return tuple(f"{name}.csv{ending}" for ending in ("", ".gz") for name in (table, table.lower()))


def _table(folder: Path, table: str) -> Path:
    for name in _spellings(table):
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"mimic3: {table}.csv and {table}.csv.gz are missing in {folder}; expected one of them.")


def cohort(files: Mapping[str, Path], rules: str, features: Sequence[str]) -> np.ndarray:
    """The admissions of the cohort `rules` ("sun2018" or "lstm_aa"), in order of their numbers.

    One row each: `hadm_id`, `subject_id`, `died`, hourly `values` (48, features), gaps bridged, and where they were
    `observed`. Raises DataError for a damaged table.
    """
    with _database(files) as database:
        damaged = database.execute(sql("faults")).fetchone()
        if damaged is not None:
            raise DataError(f"mimic3: {files[damaged[0]].name} is damaged ({damaged[1]}); {EXPECTED}.")
        for name in VIEWS:
            database.execute(f"create view {name} as {sql(name)}")
        database.execute("create table features (feature varchar)")
        database.executemany("insert into features values (?)", [[name] for name in features])
        for name in ("measured", "course"):
            database.execute(f"create table {name} as {sql(name)}")
        database.execute(f"create table cohort as {sql(rules)}")
        chosen = database.execute("select * from cohort order by hadm_id").fetchnumpy()
        cells = database.execute(sql("hourly")).fetchnumpy()
    table = np.zeros(len(chosen["hadm_id"]), _dtype(len(features)))
    for name in ("hadm_id", "subject_id", "died"):
        table[name] = chosen[name]
    place = {name: at for at, name in enumerate(features)}
    row, column = np.searchsorted(table["hadm_id"], cells["hadm_id"]), [place[name] for name in cells["feature"]]
    values = np.full(table["values"].shape, np.nan, np.float32)
    values[row, cells["hour"], column] = cells["value"]
    table["values"], table["observed"] = bridged(values), ~np.isnan(values)
    return table


def _dtype(features: int) -> np.dtype:
    shape = (HOURS, features)
    numbers = [(name, "<i4") for name in ("hadm_id", "subject_id", "died")]
    return np.dtype([*numbers, ("values", "<f4", shape), ("observed", "?", shape)])


def sql(name: str) -> str:
    """The query in a file of `mimic3_sql`."""
    return (SQL / f"{name}.sql").read_text(encoding="utf-8")


def rules_digest() -> str:
    """Digest of all the SQL."""
    total = hashlib.sha256()
    for path in sorted(SQL.glob("*.sql")):
        total.update(f"{path.name}\0{path.read_text(encoding='utf-8')}\0".encode())
    return total.hexdigest()


@contextmanager
def _database(files: Mapping[str, Path]) -> Iterator[DuckDBPyConnection]:
    """A database of its own on disk, with a view of every table. Raises DataError for what DuckDB cannot read."""
    try:
        import duckdb
    except ImportError:
        raise NotInstalledError("DuckDB", "install it with `pip install 'ecgbench-robustness[mimic]'`") from None
    if rules_digest() != RULES:
        raise EcgbenchError(
            f"mimic3: {SQL} holds other SQL than that of this version; expected the digest {RULES[:12]}."
        )
    with tempfile.TemporaryDirectory(prefix="ecgbench-mimic3-") as folder:
        settings: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": MEMORY,
            "temp_directory": folder,
            "preserve_insertion_order": "false",
        }
        try:
            with duckdb.connect(str(Path(folder, "mimic3.duckdb")), config=settings) as database:
                for table, path in files.items():
                    database.execute(
                        f"create view {table} as select {_columns(table, path)} from {_reader(table, path)}"
                    )
                yield database
        except duckdb.Error as error:
            if isinstance(error, duckdb.ConversionException | duckdb.InvalidInputException) or _named(error, files):
                raise DataError(_sentence(error, files)) from error
            reason = str(error).partition("\n")[0]
            raise StoreError(
                f"mimic3: DuckDB cannot go on ({reason[:160]}); expected {MEMORY} of memory and room for its temporary "
                f"files in {Path(folder).parent}."
            ) from error


def _columns(table: str, path: Path) -> str:
    """What is selected of a table: all of it; a value that is no finite number is an error that names its item."""
    if "VALUENUM" not in COLUMNS[table]:
        return "*"
    said = f"concat({_quoted(f'{path}: the value ')}, valuenum, ' of item ', itemid, ' at ', charttime)"
    finite = "valuenum is null or isfinite(valuenum)"
    return f"* replace (case when {finite} then valuenum else error({said})::double end as valuenum)"


def _reader(table: str, path: Path) -> str:
    """The call that reads a table with the types of `COLUMNS`; a value of another type is an error."""
    types = COLUMNS[table]
    header = _header(path)
    if not header:
        raise DataError(f"mimic3: {path.name} is empty; {EXPECTED}.")
    absent = sorted(types.keys() - set(header))
    if absent:
        raise DataError(f"mimic3: {path.name} has no column {absent[0]}; expected the table {table} of MIMIC-III.")
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"mimic3: {path.name} has the column {twice} twice; {EXPECTED}.")
    columns = ", ".join(f"{_quoted(name.lower())}: {_quoted(types.get(name, 'VARCHAR'))}" for name in header)
    rules = "header = true, auto_detect = false, delim = ',', quote = '\"', escape = '\"', strict_mode = true"
    return f"read_csv({_quoted(str(path))}, columns = {{{columns}}}, {rules})"


def _header(path: Path) -> list[str]:
    """The columns that the first line names, in capitals, or their places where they have no name."""
    try:
        with _opened(path) as file:
            line = file.readline(1 << 16)
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise DataError(f"mimic3: {path.name} cannot be read ({error}); {EXPECTED}.") from error
    names = [name.strip().upper() for name in next(csv.reader([line]), [])]
    return [name or f"(column {number})" for number, name in enumerate(names, 1)]


def _opened(path: Path) -> TextIO:
    """A table as text without a byte order mark, unzipped where it is zipped."""
    return gzip.open(path, "rt", encoding="utf-8-sig") if path.suffix == ".gz" else path.open(encoding="utf-8-sig")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _named(error: Exception, files: Mapping[str, Path]) -> str | None:
    """The file that DuckDB's message names."""
    return next((path.name for path in files.values() if str(path) in str(error)), None)


def _sentence(error: Exception, files: Mapping[str, Path]) -> str:
    """What DuckDB says, in one sentence that names the table."""
    said = str(error)
    table = _named(error, files) or "a table"
    line = re.search(r"CSV Error on Line: (\d+)", said)
    lines = [one.strip() for one in said.splitlines()]
    reason = next((one for one in lines if one.startswith(REASONS)), lines[0])
    for path in files.values():
        reason = reason.removeprefix(f"Invalid Input Error: {path}: ")
    where = f", line {line[1]}" if line else ""
    return f"mimic3: {table} is damaged{where} ({reason.rstrip('.')[:160]}); {EXPECTED}."
