"""The hardware table: what must hold between its numbers, and the mistakes it must not repeat."""

import dataclasses
import json
import math
from itertools import pairwise

import pytest

from lib.memory import data_sheets, devices
from lib.memory.devices import (
    DEVICES,
    DTYPES,
    REFERENCE_CPU,
    Device,
    MemoryLevel,
    device,
    device_from_record,
    source,
    specifications,
)

SHEETS = [key for key in DEVICES if key != REFERENCE_CPU]
GPUS = [key for key in SHEETS if "sms" in DEVICES[key].specs]
SINCE_AMPERE = [key for key in GPUS if key not in ("V100", "T4")]
FACTS = [(key, name) for key in SHEETS for name in data_sheets.facts(key)]

RECORD = {
    "name": "2 cores of a test",
    "cpu": "a test",
    "cores": 2,
    "dtypes": {"float32": 3.4e11, "bfloat16": 2.5e12},
    "bandwidth": 2.4e10,
    "memory_bytes": 24 * 2**30,
    "levels": [
        {
            "name": "L2",
            "capacity_bytes": 4 * 2**20,
            "bandwidth": 1.2e11,
            "latency_seconds": 5e-9,
        }
    ],
    "command": "a command",
    "date": "2026-01-01",
}


@pytest.fixture
def measured_here(monkeypatch):
    """A reference CPU of known numbers in the place of the committed one."""
    monkeypatch.setattr(devices, "_reference_record", lambda: RECORD)
    devices._reference_cpu.cache_clear()
    yield
    devices._reference_cpu.cache_clear()


# ------------------------------------------------------------------------ names and their errors


def test_the_devices_come_in_the_order_of_the_book():
    expected = "V100, T4, A100-40GB, A100-80GB, L4, RTX 4090, H100, H200, B200, MI300X, TPU v5e"
    assert list(DEVICES) == [*expected.split(", "), REFERENCE_CPU]
    assert len(DEVICES) == 12


def test_a_device_is_built_once_and_cannot_be_changed():
    h100 = device("H100")
    assert device("h100") is h100 is DEVICES["H100"]
    with pytest.raises(TypeError):
        DEVICES["H100"] = h100
    with pytest.raises(TypeError):
        h100.peak_flops["float32"] = 1.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        h100.bandwidth = 1.0
    assert hash(h100) == hash(dataclasses.replace(h100))


def test_keys_are_found_in_any_case():
    for key in SHEETS:
        assert device(key.upper()) is device(key.lower()) is DEVICES[key]


@pytest.mark.parametrize("name", ["H10", "", "H100 ", None, 100])
def test_an_unknown_device_is_answered_with_the_names(name, import_unchecked):
    with pytest.raises(ValueError, match="H100, H200, B200") as caught:
        import_unchecked("lib.memory.devices").device(name)
    assert repr(name) in str(caught.value)
    assert "this machine" in str(caught.value)


def test_a_missing_dtype_is_answered_with_those_there_are():
    with pytest.raises(ValueError, match=r"V100.*'bfloat16'.*float32, float16"):
        device("V100").peak("bfloat16")


def test_a_missing_level_is_answered_with_those_there_are():
    with pytest.raises(ValueError, match=r"'L3'.*registers, shared memory, L2, global memory"):
        device("H100").level("L3")


def test_this_machine_is_measured_once(monkeypatch):
    from lib.memory import measure

    calls = []
    here = Device("here", {"float32": 1e11}, 1e10, 8e9)
    monkeypatch.setattr(measure, "measure_device", lambda: calls.append(1) or here)
    devices._this_machine.cache_clear()
    try:
        assert device("this machine") is device("This Machine") is here
        assert len(calls) == 1
    finally:
        devices._this_machine.cache_clear()


# -------------------------------------------------------------- what must hold between the numbers

RIDGES = {
    ("V100", "float16"): 139,
    ("T4", "float16"): 203,
    ("A100-40GB", "bfloat16"): 201,
    ("A100-80GB", "bfloat16"): 153,
    ("L4", "bfloat16"): 403,
    ("RTX 4090", "bfloat16"): 164,
    ("H100", "bfloat16"): 295,
    ("H200", "bfloat16"): 206,
    ("B200", "bfloat16"): 281,
    ("MI300X", "bfloat16"): 247,
    ("TPU v5e", "bfloat16"): 241,
}


@pytest.mark.parametrize(("key", "dtype"), RIDGES)
def test_ridges_to_the_digit(key, dtype):
    assert round(device(key).peak(dtype) / device(key).bandwidth) == RIDGES[key, dtype]


@pytest.mark.parametrize("key", SINCE_AMPERE)
def test_the_narrow_dtypes_follow_from_bfloat16(key):
    it = device(key)
    assert it.peak("float16") == it.peak("bfloat16")
    assert it.peak("tfloat32") == pytest.approx(it.peak("bfloat16") / 2, rel=0.01)
    if "float8" in it.peak_flops:
        assert it.peak("float8") == pytest.approx(2 * it.peak("bfloat16"), rel=0.003)


def test_which_devices_have_which_dtypes():
    assert [k for k in SHEETS if "float8" not in device(k).peak_flops] == [
        "V100",
        "T4",
        "A100-40GB",
        "A100-80GB",
        "TPU v5e",
    ]
    assert [k for k in SHEETS if "bfloat16" not in device(k).peak_flops] == ["V100", "T4"]


@pytest.mark.parametrize("key", [key for key in GPUS if key != "B200"])
def test_float32_is_lanes_times_clock(key):
    # The B200's clock is itself derived from this peak.
    specs = device(key).specs
    flops = specs["sms"] * specs["fp32_lanes_per_sm"] * 2 * specs["boost_clock"]
    assert data_sheets.facts(key)["float32"].printed == round(flops / 1e12, 1)


def test_the_b200_clock_that_is_derived_is_a_clock_of_its_kind():
    assert device("B200").specs["boost_clock"] == pytest.approx(1.98e9, rel=0.01)
    assert data_sheets.facts("B200")["boost_clock"].kind == "derived"


@pytest.mark.parametrize("key", SHEETS)
def test_peaks_are_dense(key):
    for dtype in device(key).peak_flops:
        fact = data_sheets.facts(key)[dtype]
        if fact.sparse is not None:
            assert fact.printed == pytest.approx(fact.sparse / 2, rel=5e-4)
            assert f"half of the {fact.sparse:,g} printed with sparsity" in fact.note


def test_every_tensor_peak_since_ampere_names_its_sparse_number():
    for key in SINCE_AMPERE:
        facts = data_sheets.facts(key)
        assert all(facts[d].sparse for d in DTYPES if d in facts and d != "float32")


WRONG_PEAKS = [
    ("V100", "float16", 112e12, "the PCIe card's peak beside the SXM card's bandwidth"),
    ("RTX 4090", "bfloat16", 330e12, "sparse, or with float16 sums"),
    ("L4", "bfloat16", 242e12, "sparse"),
    ("A100-80GB", "bfloat16", 624e12, "sparse"),
    ("H100", "bfloat16", 1_979e12, "sparse"),
    ("H100", "float8", 3_958e12, "sparse"),
    ("H200", "bfloat16", 1_970e12, "sparse"),
    ("B200", "bfloat16", 4_500e12, "sparse"),
    ("B200", "float8", 9_000e12, "sparse"),
    ("MI300X", "float16", 2_615e12, "sparse"),
]

WRONG_BANDWIDTHS = [
    ("H100", 3.0e12, "rounded, or an early sheet"),
    ("H100", 3.072e12, "the PCIe memory at another clock"),
    ("B200", 9.0e12, "rounded up"),
    ("TPU v5e", 1.6e12, "gigabits of the chip-to-chip links"),
    ("A100-40GB", 2.039e12, "the 80 GB card's"),
]


@pytest.mark.parametrize(("key", "dtype", "wrong", "why"), WRONG_PEAKS)
def test_published_mistakes_in_peaks(key, dtype, wrong, why):
    assert not math.isclose(device(key).peak(dtype), wrong, rel_tol=0.05), why


@pytest.mark.parametrize(("key", "wrong", "why"), WRONG_BANDWIDTHS)
def test_published_mistakes_in_bandwidths(key, wrong, why):
    assert not math.isclose(device(key).bandwidth, wrong, rel_tol=0.05), why


def test_other_published_mistakes():
    assert "float8" not in device("A100-80GB").peak_flops
    assert device("B200").specs["sms"] == 148, "not 192"
    assert device("B200").specs["l2_bytes"] == 126.5 * 2**20, "not 96 MB"
    assert device("MI300X").specs["sms"] == 304


# ------------------------------------------------------------------------------------ the levels


@pytest.mark.parametrize("key", SHEETS)
def test_levels_get_slower(key):
    for faster, slower in pairwise(device(key).levels):
        assert faster.bandwidth > slower.bandwidth
        if None not in (faster.latency_seconds, slower.latency_seconds):
            assert faster.latency_seconds < slower.latency_seconds


@pytest.mark.parametrize("key", SHEETS)
def test_levels_get_larger_but_for_registers_and_the_caches_below_them(key):
    levels = device(key).levels
    on_chip = levels[: [level.name for level in levels].index("global memory")]
    assert sum(level.capacity_bytes for level in on_chip) < device(key).memory_bytes / 50
    if key in GPUS:
        registers, shared = device(key).level("registers"), device(key).level("shared memory")
        assert registers.capacity_bytes > shared.capacity_bytes
    assert device(key).level("host").capacity_bytes == math.inf


@pytest.mark.parametrize("key", SHEETS)
def test_the_global_memory_is_the_device_s_own(key):
    level = device(key).level("global memory")
    assert (level.bandwidth, level.capacity_bytes) == (
        device(key).bandwidth,
        device(key).memory_bytes,
    )


def test_the_levels_of_an_h100_by_hand():
    h100 = device("H100")
    assert [level.name for level in h100.levels] == [
        "registers",
        "shared memory",
        "L2",
        "global memory",
        "host",
    ]
    assert h100.level("registers").capacity_bytes == 132 * 256 * 1024
    assert h100.level("registers").bandwidth == pytest.approx(132 * 128 * 3 * 4 * 1.98e9)
    assert h100.level("shared memory").capacity_bytes == 132 * 228 * 1024
    assert h100.level("shared memory").bandwidth == pytest.approx(132 * 128 * 1.98e9)
    assert h100.level("L2").latency_seconds == pytest.approx(291 / 1.98e9)
    assert h100.level("global memory").latency_seconds == pytest.approx(700 / 1.98e9)
    assert h100.level("host").bandwidth == pytest.approx(32e9 * 16 / 8 * 128 / 130)


def test_a_level_about_which_too_little_is_known_is_missing():
    without = [key for key in GPUS if "L2" not in {level.name for level in device(key).levels}]
    assert without == ["T4", "L4", "B200"]
    assert all("l2_bytes" in device(key).specs for key in without)
    assert device("TPU v5e").levels[0].name == "VMEM"


@pytest.mark.parametrize("key", ["capacity_bytes", "bandwidth", "latency_seconds"])
def test_a_level_refuses_what_is_not_above_zero(key, import_unchecked):
    level = import_unchecked("lib.memory.devices").MemoryLevel
    good = {"name": "x", "capacity_bytes": 1, "bandwidth": 1.0, "latency_seconds": 1e-9}
    assert level(**good).transfer_time(3) == 3.0
    for bad in (0, -1.0, "fast", math.nan):
        with pytest.raises(ValueError, match=f"{key} must be a number above zero, got {bad!r}"):
            level(**{**good, key: bad})


def test_a_device_refuses_what_is_not_above_zero(import_unchecked):
    unchecked = import_unchecked("lib.memory.devices").Device
    for peak, bandwidth, capacity in [(0, 1, 1), (1, -1, 1), (1, 1, None)]:
        with pytest.raises(ValueError, match="above zero"):
            unchecked("x", {"float32": peak}, bandwidth, capacity)


@pytest.mark.parametrize("num_bytes", [0, -1, 1.5, "1", True])
def test_a_transfer_is_of_whole_bytes(num_bytes, import_unchecked):
    h100 = import_unchecked("lib.memory.devices").device("H100")
    with pytest.raises(ValueError, match="num_bytes must be a positive whole number"):
        h100.level("L2").transfer_time(num_bytes)


# ----------------------------------------------------------------------------------- the sources


@pytest.mark.parametrize(("key", "name"), FACTS)
def test_every_number_has_a_source_and_says_what_it_is(key, name):
    fact = data_sheets.facts(key)[name]
    assert fact.sources
    assert fact.value > 0
    assert fact.value == pytest.approx(fact.printed * data_sheets.UNITS[fact.unit])
    kinds = {data_sheets.sources()[source_key].kind for source_key in fact.sources}
    assert kinds <= {"data sheet", "third party"}
    assert fact.kind == "derived" if fact.formula else {fact.kind} == kinds


def test_every_source_is_used_and_complete():
    used = {name for key, field in FACTS for name in data_sheets.facts(key)[field].sources}
    assert used == set(data_sheets.sources())
    for citation in data_sheets.sources().values():
        assert citation.title and citation.publisher and citation.document
        assert 2008 < citation.year < 2030
        assert citation.url.startswith("https://")


def test_every_peak_and_bandwidth_is_the_vendor_s_own():
    for key in SHEETS:
        facts = data_sheets.facts(key)
        for name in (*device(key).peak_flops, "memory_bandwidth", "memory_bytes"):
            assert facts[name].kind == "data sheet"


def test_numbers_print_as_the_sheet_prints_them():
    assert data_sheets.facts("H100")["memory_bandwidth"].printed == 3.35
    assert device("H100").bandwidth == 3.35e12
    assert device("V100").level("L2").bandwidth == 2.155e12
    assert device("L4").specs["sms"] == 58
    assert type(device("L4").specs["sms"]) is int


def test_source_names_the_documents():
    assert "NVIDIA H100 Tensor Core GPU" in source("H100", "memory_bandwidth")
    assert "CUDA C++ Programming Guide" in source("h100", "shared_memory_bandwidth")
    assert "Tensor Core GPU Architecture" in source("h100", "shared_memory_bandwidth")
    with pytest.raises(ValueError, match="no field 'speed', only float32"):
        source("H100", "speed")
    with pytest.raises(ValueError, match="unknown device"):
        source("H1000", "float32")
    with pytest.raises(ValueError, match=r"TPU v5e, reference CPU$"):
        specifications("this machine")
    with pytest.raises(ValueError, match="'H1000' is not in the table"):
        data_sheets.facts("H1000")


def test_the_table_has_a_row_for_every_number(measured_here):
    rows = specifications()
    assert len(rows) == len(FACTS) + 4
    assert list(dict.fromkeys(row["device"] for row in rows)) == list(DEVICES)
    assert {row["kind"] for row in rows} == {"data sheet", "third party", "derived", "measured"}
    assert all(bool(row["formula"]) == (row["kind"] == "derived") for row in rows)
    assert all(row["source"] for row in rows)
    assert rows[0]["field"] == "float32"
    assert specifications("B200")[0]["field"] == "float32"
    json.dumps(rows)


# ------------------------------------------------------------------------------ the reference CPU


def test_the_reference_cpu_is_its_measurement(measured_here):
    cpu = device("Reference CPU")
    assert cpu.peak_flops == RECORD["dtypes"]
    assert (cpu.bandwidth, cpu.memory_bytes) == (2.4e10, 24 * 2**30)
    assert [level.name for level in cpu.levels] == ["L2", "global memory"]
    assert cpu.level("global memory").bandwidth == cpu.bandwidth
    assert source("reference CPU", "float32") == "a command, 2026-01-01"


def test_the_committed_reference_cpu_can_be_read():
    cpu = device(REFERENCE_CPU)
    assert cpu.peak("float32") > 1e9
    assert cpu.level("global memory").bandwidth == cpu.bandwidth
    assert [row["kind"] for row in specifications(REFERENCE_CPU)] == ["measured"] * len(
        specifications(REFERENCE_CPU)
    )


def test_a_measurement_may_name_the_global_memory_itself():
    level = {"name": "global memory", "capacity_bytes": 9, "bandwidth": 2.0}
    measured = device_from_record({**RECORD, "levels": [level]})
    assert measured.levels == (MemoryLevel("global memory", 9, 2.0),)


def test_an_incomplete_measurement_is_refused():
    with pytest.raises(ValueError, match="lacks bandwidth, dtypes"):
        device_from_record({k: v for k, v in RECORD.items() if k not in ("dtypes", "bandwidth")})
