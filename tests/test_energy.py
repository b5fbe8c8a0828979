"""Energy: the counters of all packages where they can be read, power times time where not."""

import time

import pytest

from minidistil.io import energy
from minidistil.io.energy import Energy

LARGEST = 9_999_999  # microjoules, after which these counters begin again at 0


@pytest.fixture
def clock(monkeypatch):
    """Processor time: clock[0] seconds."""
    now = [0.0]
    monkeypatch.setattr(time, "process_time", lambda: now[0])
    return now


@pytest.fixture
def set_to(tmp_path):
    """set_to(zone, microjoules) writes a counter in `tmp_path`; `name` makes the zone."""

    def write(zone, value, name=None):
        folder = tmp_path / zone
        if name:
            folder.mkdir()
            (folder / "name").write_text(f"{name}\n")
            (folder / "max_energy_range_uj").write_text(f"{LARGEST}\n")
        (folder / "new").write_text(f"{value}\n")
        (folder / "new").replace(folder / "energy_uj")  # a reader never sees half of it

    return write


def test_power_times_time_without_counters(tmp_path, clock):
    with Energy(20, tmp_path) as used:
        clock[0] = 1.5
        assert used.so_far() == 30
        clock[0] = 2.0
    assert used.joules == 40 and used.source == "20 W assumed"


def test_packages_alone_are_counted(tmp_path, set_to):
    set_to("intel-rapl:0", 5, "package-0")
    set_to("intel-rapl:0:0", 5, "core")  # a part of package 0
    set_to("intel-rapl:1", 9_000_000, "package-1")
    set_to("intel-rapl:2", 5, "psys")  # holds both packages
    with Energy(20, tmp_path) as used:
        set_to("intel-rapl:0", 2_000_005)
        set_to("intel-rapl:0:0", 1_000_005)
        set_to("intel-rapl:2", 5_000_005)
        assert used.so_far() == 2
        set_to("intel-rapl:1", 1_000_000)  # it began again
    assert used.joules == 4 and used.source == "RAPL"


def test_a_counter_that_begins_again_several_times(tmp_path, set_to, monkeypatch):
    monkeypatch.setattr(energy, "EVERY", 0.001)
    set_to("intel-rapl:0", 0, "package-0")
    with Energy(20, tmp_path) as used:
        for value in (6_000_000, 2_000_000, 8_000_000, 4_000_000):
            set_to("intel-rapl:0", value)
            until = time.monotonic() + 60
            while [*used.counts.values()] != [value] and time.monotonic() < until:
                time.sleep(0.001)
    assert used.joules == 24 and used.source == "RAPL"


@pytest.mark.parametrize("file", ["energy_uj", "max_energy_range_uj"])
@pytest.mark.parametrize("content", ["", None])
def test_counters_that_are_not_granted(tmp_path, set_to, clock, file, content):
    set_to("intel-rapl:0", 5, "package-0")
    path = tmp_path / "intel-rapl:0" / file
    path.unlink() if content is None else path.write_text(content)
    with Energy(20, tmp_path) as used:
        clock[0] = 2.0
    assert used.joules == 40 and used.source == "20 W assumed"


def test_a_counter_that_is_lost_meanwhile(tmp_path, set_to, clock):
    set_to("intel-rapl:0", 5, "package-0")
    with Energy(20, tmp_path) as used:
        set_to("intel-rapl:0", "")
        clock[0] = 2.0
        used.so_far()
        set_to("intel-rapl:0", 1_000_005)  # what it counted between is not known
    assert used.joules == 40 and used.source == "20 W assumed"
