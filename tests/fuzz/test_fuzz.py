"""Whatever the files and the options are, a command answers or refuses in one line.

Right: exit code 0, or 2 with one line under 500 characters and nothing left behind, in less than
2 GB and a minute; 1 for a training that meets a number that is not finite, and for a `check` that
reports a difference; 2 for one that reports what it could not compare. `pytest tests/fuzz` tries
the same commands each time; `pytest tests/fuzz --long 60 -s` tries others for 60 minutes and prints
every kind of fault with the command and the damages that show it.
"""

import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest
from fuzz_damage import KINDS, LINE_KINDS, Damage, copied, spoil, spoil_line
from fuzz_runner import Outcome, Runner, faults
from fuzz_world import USES, build
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from minidistil.cli import parser_of

SHORT = 150  # cases of an ordinary run
SECONDS = 90  # after which an ordinary run tries no more
COLD = 600  # seconds for a command that may have to compile its kernels first
ENDLESS = {"--steps", "--tokens", "--epochs", "--minutes", "--copies", "--batch-tokens",
           "--max-new-tokens", "--num-beams", "--accumulate", "--vocab-size", "--layers",
           "--hidden", "--intermediate", "--heads"}  # fmt: skip
# Honest work for a huge number; a size has tests of its own.


class Case(NamedTuple):
    """A use of `fuzz_world`, and what is done to it."""

    use: int
    damages: tuple  # of (number of a file, Damage)
    line: tuple = ()  # Damage of the command line
    json: bool = False


places, values = st.floats(0, 0.999), st.integers(0, 999)
of_files = st.builds(Damage, st.sampled_from(sorted(KINDS)), places, values)
cases = st.builds(
    Case, st.integers(0, len(USES) - 1),
    st.lists(st.tuples(st.integers(0, 99), of_files), max_size=2).map(tuple),
    st.lists(st.builds(Damage, st.sampled_from(LINE_KINDS), places, values), max_size=1).map(tuple),
    st.booleans(),
)  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    home = tmp_path_factory.mktemp("fuzz")
    build(home)
    return home


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    runner = Runner(tmp_path_factory.mktemp("runner") / "stack.txt")
    yield runner
    runner.stop()


def options_of(command):
    """The long options of a command."""
    actions = parser_of(command)._actions
    return sorted(o for a in actions for o in a.option_strings if o.startswith("--")
                  and o not in ("--help", "--cache-teacher"))  # fmt: skip


def bounded(argv):
    """argv without numbers that ask for hours of honest work."""
    argv = list(argv)
    for i, word in enumerate(argv[1:], 1):
        if argv[i - 1] in ENDLESS and (len(word) > 3 or word in ("inf", "nan")):
            argv[i] = "3"
    return argv


def tried(case, world, runner, **limit):
    """What the case does  ->  Outcome, its faults."""
    use = USES[case.use]
    argv = list(use.argv)
    for damage in case.line:
        argv = spoil_line(argv, damage, options_of(argv[0]))
    if case.json and "--lines" not in argv:
        argv.append("--json")
    argv = bounded(argv)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        folder = Path(folder)
        files = copied(world, use.files, folder)
        for number, damage in case.damages:
            path = files[number % len(files)]
            if path.is_file() and not path.is_symlink():
                spoil(path, damage)
        before = {str(p.relative_to(folder)) for p in folder.rglob("*")}
        outcome = runner.run(argv, folder, **limit)
        after = {str(p.relative_to(folder)) for p in folder.rglob("*")}
        return outcome, faults(outcome, argv, before, after)


@pytest.mark.parametrize("use", range(len(USES)), ids=lambda i: " ".join(USES[i].argv[:5]))
def test_undamaged_it_works(use, world, runner):
    outcome, wrong = tried(Case(use, ()), world, runner, seconds=COLD)
    assert outcome.code == 0 and not wrong, (outcome.err or outcome.trace, wrong)


def test_a_report_of_check_is_an_answer():
    """With exit code 1, or 2 for too few values; an error, and any other command's 1, is none."""
    reports = {code: Outcome(code, "first difference: logits", "", None, 0, 0) for code in (1, 2)}
    error = Outcome(1, "", "error: cannot compare", None, 0, 0)
    assert not any(faults(o, ("check",), set(), set()) for o in reports.values())
    assert faults(error, ("check",), set(), set())
    assert all(faults(o, ("trace",), set(), set()) for o in reports.values())


def test_damaged_it_answers_or_refuses(world, runner, request):
    minutes = request.config.getoption("--long")
    if minutes:
        _long(60 * minutes, world, runner)
        return
    until = time.monotonic() + SECONDS

    @settings(max_examples=SHORT, suppress_health_check=list(HealthCheck))
    @given(cases)
    def check(case):
        if time.monotonic() < until:
            outcome, wrong = tried(case, world, runner)
            assert not wrong, (USES[case.use].argv, outcome.err, outcome.trace)

    check()


def _long(seconds, world, runner):
    """Tries for so long, gathers one case of each kind of fault, and says what was tried."""
    codes, kinds, peak, slowest = Counter(), {}, 0, 0.0
    until, started = time.monotonic() + seconds, time.monotonic()

    def check(case):
        nonlocal peak, slowest
        if time.monotonic() > until:
            return
        outcome, wrong = tried(case, world, runner)
        codes[outcome.code] += 1
        peak, slowest = max(peak, outcome.peak), max(slowest, outcome.seconds)
        for fault in wrong:
            if fault not in kinds:
                kinds[fault] = case
                print(f"\n{fault}\n  {USES[case.use].argv}\n  {case}\n  {outcome.err[-300:]}",
                      flush=True)  # fmt: skip

    while time.monotonic() < until:
        once = settings(max_examples=300, derandomize=False, phases=[Phase.generate],
                        suppress_health_check=list(HealthCheck))  # fmt: skip
        once(given(cases)(check))()
    print(
        f"\n{sum(codes.values())} cases in {(time.monotonic() - started) / 60:.0f} minutes, exit "
        f"codes {dict(codes)}, at most {peak} MB and {slowest:.0f} s, {len(kinds)} kinds of fault"
    )
    assert not kinds, sorted(kinds)
