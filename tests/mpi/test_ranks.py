"""A process alone, and the environment by which a rank knows that it is one of several."""

import os
import subprocess
import sys

import numpy as np
import pytest

from minidistil.io import ranks
from minidistil.io.ranks import ALONE, Ranks, launched, world


@pytest.fixture(autouse=True)
def not_launched(monkeypatch):
    for names in ranks.LAUNCHERS:
        for name in filter(None, names):
            monkeypatch.delenv(name, raising=False)
    world.cache_clear()
    yield
    world.cache_clear()


@pytest.mark.parametrize(("variables", "place"), [
    ({}, None),
    ({"PMI_RANK": "0", "PMI_SIZE": "1"}, None),  # mpirun -n 1, or an allocation's own shell
    ({"PMI_RANK": "2", "PMI_SIZE": "4"}, (2, 4)),
    ({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}, (1, 2)),
    ({"PMIX_RANK": "3"}, (3, None)),
])  # fmt: skip
def test_the_launcher_is_known_by_its_variables(monkeypatch, variables, place):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert launched() == place


def test_a_process_alone_imports_no_mpi():
    code = (
        "import sys; from minidistil.cli import main; main(['--version']);"
        "from minidistil.io.ranks import world, ALONE; assert world() is ALONE;"
        "assert not [m for m in sys.modules if 'mpi4py' in m]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_without_mpi4py_the_remedy_is_named(monkeypatch):
    monkeypatch.setenv("PMI_RANK", "0")
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(ValueError, match=r"needs mpi4py.*pip install 'minidistil\[mpi\]'"):
        world()


def test_two_mpi_implementations_are_refused(monkeypatch):
    """mpi4py's library does not know the launcher, and sees one process."""
    pytest.importorskip("mpi4py")
    code = "from minidistil.io.ranks import world; world()"
    environment = {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "3"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True
    )
    assert "the launcher started 3 ranks" in done.stderr and "sees 1" in done.stderr


def test_alone_every_method_returns_what_it_is_given():
    assert ALONE.share([1, 2]) == ALONE.in_order([1, 2]) == [1, 2]
    assert ALONE.gather(3) == [3] and ALONE.first(lambda: 4) == 4
    assert list(ALONE.computed(lambda x: 2 * x, [1, 2])) == [2, 4]
    assert ALONE.sharing_cores() == 1
    ALONE.refuse_differences({"a": np.float32(1)})
    ALONE.wait()


class Comm:
    """What three ranks gave, of which this one is the second."""

    def __init__(self, others):
        self.others = others

    def allgather(self, mine):
        return [self.others[0], mine, self.others[1]]


def test_shares_come_back_in_order():
    items = list("abcdefgh")
    parts = [Ranks(r, 3).share(items) for r in range(3)]
    assert parts[1] == ["b", "e", "h"]
    assert Ranks(1, 3, Comm([parts[0], parts[2]])).in_order(parts[1]) == items


def test_a_difference_is_named_with_both_values():
    ranks = Ranks(1, 3, Comm([{"lr": 0.1, "seed": 0}, {"lr": 0.2, "seed": 0}]))
    with pytest.raises(ValueError, match=r"same lr: rank 0 has 0.1, rank 2 0.2; start all ranks"):
        ranks.refuse_differences({"lr": 0.1, "seed": 0})
