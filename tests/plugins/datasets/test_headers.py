"""WFDB headers, written by the rules of header(5), against what the wfdb library reads in them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecgbench.core.errors import DataError
from ecgbench_plugins.datasets.headers import Header, Signal, read_header

GAP = st.sampled_from([" ", "\t", "  ", " \t "])
COUNT = st.integers(0, 70000).map(str)
WORD = st.text("ABCabcXYZ0123456789_-", min_size=1, max_size=8)
NAME = st.one_of(st.just(""), st.sampled_from(["MLII", "V5", "ECG lead II", "aVR", "Ableitung Größe"]))


@st.composite
def chained(draw: st.DrawFn, *parts: st.SearchStrategy[str]) -> str:
    """The first so many of `parts`, a gap before each: in header(5) a field needs all before it."""
    some = parts[: draw(st.integers(0, len(parts)))]
    return "".join(draw(GAP) + draw(part) for part in some)


@st.composite
def rates(draw: st.DrawFn) -> str:
    rate = draw(st.sampled_from(["360", "300", "250.5", "0.1", "128."]))
    counter = draw(st.sampled_from(["", "/300", "/0.5", "/300(0)", "/360(-12.5)"]))
    return rate + counter


@st.composite
def gains(draw: st.DrawFn) -> str:
    gain = draw(st.sampled_from(["200", "0", "1000", "0.2", "-200", "1e3", "2.5e-05", ".5"]))
    baseline = draw(st.sampled_from(["", "(0)", "(1024)", "(-7)"]))
    return gain + baseline + draw(st.sampled_from(["", "/mV", "/uV", "/V", "/mmHg", "/adu", "/mV/s"]))


@st.composite
def signal_lines(draw: st.DrawFn) -> str:
    file, form = draw(WORD) + draw(st.sampled_from(["", ".dat", ".mat"])), draw(st.sampled_from(["16", "212", "8"]))
    form += draw(st.sampled_from(["", "x2", "x1:3", ":4", "+24", "x1:0+24"]))
    rest = draw(chained(gains(), COUNT, COUNT, st.integers(-9, 9).map(str), COUNT, COUNT, NAME.filter(bool)))
    return f"{file}{draw(GAP)}{form}{rest}"


@st.composite
def headers(draw: st.DrawFn) -> bytes:
    """A header of one to three signals, with comments, blank lines, byte order mark and line ends of all kinds."""
    signals = draw(st.lists(signal_lines(), min_size=1, max_size=3))
    when = chained(rates(), COUNT, st.just("05:05:15"), st.sampled_from(["1/05/2000", "01/05/2000"]))
    lines = [f"{draw(WORD)}{draw(GAP)}{len(signals)}{draw(when)}", *signals]
    between = st.lists(
        st.sampled_from(["", "# by our PACS", "#", "   ", "  # 69 M 1085 x1", "# Größe: 3 µV"]), max_size=2
    )
    spread = [extra for line in lines for extra in [*draw(between), draw(st.sampled_from(["", " "])) + line]]
    text = draw(st.sampled_from(["\n", "\r\n"])).join([*spread, *draw(between)])
    return draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) + text.encode()


def theirs(path: Path) -> Header:
    """The same values as wfdb reads them; of a name it drops what is no ASCII."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # wfdb calls what pandas is about to drop
        import wfdb

        read: Any = wfdb.rdheader(str(path.with_suffix("")))
    signals = tuple(
        Signal(
            file=read.file_name[k],
            form=read.fmt[k],
            per_frame=read.samps_per_frame[k],
            skew=read.skew[k] or 0,
            gain=read.adc_gain[k],
            calibrated=True,
            baseline=read.baseline[k],
            unit=read.units[k],
            name=read.sig_name[k] or "",
        )
        for k in range(read.n_sig)
    )
    return Header(read.record_name, None, float(read.fs), read.sig_len or None, signals)


def plain(header: Header) -> tuple[object, ...]:
    """All that both know."""
    return header.record, header.rate, header.length, [
        (s.file, s.form, s.per_frame, s.skew, s.gain, s.baseline, s.unit, s.name.replace("?", ""))
        for s in header.signals
    ]  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(headers())
def test_a_header_is_read_as_wfdb_reads_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.hea").write_bytes(content)
    assert plain(read_header(tmp_path / "a.hea")) == plain(theirs(tmp_path / "a.hea"))


def one(folder: Path, line: str, record: str = "a 1 360 10") -> Signal:
    (folder / "a.hea").write_text(f"{record}\n{line}\n", encoding="utf-8")
    (signal,) = read_header(folder / "a.hea").signals
    return signal


@pytest.mark.parametrize(
    ("gain", "per_mv"),
    [("200/mV", 200.0), ("200", 200.0), ("0.2/uV", 200.0), ("200000/V", 200.0), ("2e-4/nV", 200.0), ("-200/mV", -200.0),
     ("0.2/µV", 200.0), ("0.2/μV", 200.0), ("0.2(1024)/uV", 200.0), ("1/uV", 1000.0)],
)  # fmt: skip
def test_the_gain_is_counted_per_mv_whatever_voltage_it_is_written_for(
    gain: str, per_mv: float, tmp_path: Path
) -> None:
    assert one(tmp_path, f"a.dat 212 {gain} 11 1024").per_mv == pytest.approx(per_mv, rel=1e-12)


@pytest.mark.parametrize("unit", ["mmHg", "adu", "MV", "mv", "Ω", "NU", "mV/s", "kV"])
def test_a_unit_that_is_no_known_voltage_is_named(unit: str, tmp_path: Path) -> None:
    shown = unit.encode("ascii", "replace").decode().replace("?", r"\?")
    with pytest.raises(DataError, match=rf"^stored in {shown}; expected V, mV, uV or nV$"):
        _ = one(tmp_path, f"a.dat 212 200/{unit} 11 1024").per_mv


@pytest.mark.parametrize(
    ("line", "gain", "calibrated"),
    [("a.dat 212", 200.0, False), ("a.dat 212 0", 200.0, False), ("a.dat 212 0/uV", 200.0, False),
     ("a.dat 212 200", 200.0, True), ("a.dat 212 0.5", 0.5, True)],
)  # fmt: skip
def test_no_gain_or_one_of_0_stands_for_200_of_a_signal_that_is_not_calibrated(
    line: str, gain: float, calibrated: bool, tmp_path: Path
) -> None:
    signal = one(tmp_path, line)
    assert (signal.gain, signal.calibrated) == (gain, calibrated)


@pytest.mark.parametrize(
    ("line", "baseline"),
    [
        ("a.dat 212 200 11 1024", 1024),
        ("a.dat 212 200(5) 11 1024", 5),
        ("a.dat 212 200(0) 11 1024", 0),
        ("a.dat 212", 0),
    ],
)
def test_the_adc_zero_is_the_baseline_where_none_is_stated(line: str, baseline: int, tmp_path: Path) -> None:
    assert one(tmp_path, line).baseline == baseline


def test_what_a_record_line_leaves_out_has_the_defaults_of_the_manual(tmp_path: Path) -> None:
    one(tmp_path, "a.dat 16", record="a 1")
    assert read_header(tmp_path / "a.hea") == Header(
        "a", None, 250.0, None, (Signal("a.dat", "16", 1, 0, 200.0, False, 0, "mV", ""),)
    )


def test_segments_are_counted_and_their_lines_are_no_signals(tmp_path: Path) -> None:
    (tmp_path / "a.hea").write_text("a/2 1 360 20\na_1 10\na_2 10\n")
    assert read_header(tmp_path / "a.hea") == Header("a", 2, 360.0, 20, ())


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "latin-1"])
def test_a_mark_of_utf_16_or_a_comment_in_latin_1_is_no_fault(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "a.hea").write_text("# Gerät\r\na 1 360 10\r\na.dat 16 200/mV\r\n", encoding=encoding)
    assert read_header(tmp_path / "a.hea").rate == 360.0


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "is no WFDB header"),
        ("# nothing but a comment\n", "is no WFDB header"),
        ("what?", "is no WFDB header"),
        ("a 1 360 10\n???\n", "is no WFDB header"),
        ("a 1 . 10\na.dat 16\n", "is no WFDB header"),
        ("a 1 360 10\na.dat 16 -/mV\n", "is no WFDB header"),
        ("a 1 360 10\n", "states 1 signals and describes 0"),
        ("a 2 360 10\na.dat 16\n", "states 2 signals and describes 1"),
    ],
)
def test_what_is_no_header_is_a_fault(text: str, fault: str, tmp_path: Path) -> None:
    (tmp_path / "a.hea").write_text(text)
    with pytest.raises(DataError, match=rf"^damaged: a\.hea {fault}$"):
        read_header(tmp_path / "a.hea")


def test_a_header_that_is_a_folder_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "a.hea").mkdir()
    with pytest.raises(DataError, match=r"^damaged: a\.hea cannot be read \("):
        read_header(tmp_path / "a.hea")
