"""`minidistil warmup`: afterwards nothing is left to compile."""

import json
import os
import subprocess
import sys

from minidistil.cli import main
from minidistil.ops.runtime.cpu import compilations, njit

WARM_THEN_WORK = """
from minidistil.cli import main
from minidistil.ops.runtime.cpu import compilations

assert main(["warmup"]) == 0
before = compilations.count
assert main({}) == 0
assert compilations.count == before, "a kernel was compiled after the warm-up"
"""


def run_warm(tmp_path, *argv):
    script = WARM_THEN_WORK.format(list(argv))
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path, env=os.environ)


def test_distilling_finds_its_kernels(tmp_path, world):
    run_warm(tmp_path, "distill", "--teacher", world.teacher, "--layers", "0", "--data", world.text,
             "--steps", "2", "--out", str(tmp_path / "run"), "--alpha-mse", "1",
             "--terms", "attention", "--terms", "relations", "--terms", "feature-maps")  # fmt: skip


def test_a_classifier_finds_its_kernels(tmp_path, world):
    run_warm(tmp_path, "evaluate", "--model", world.classifier, "--data", world.labelled)


def test_a_second_time_there_is_nothing_to_do(capsys):
    assert main(["warmup"]) == 0
    capsys.readouterr()
    assert main(["warmup", "--json"]) == 0
    assert '"compiled": 0' in capsys.readouterr().out


def test_another_process_finds_everything_too():
    """The cache holds no helper, so Python must call none."""
    command = [sys.executable, "-m", "minidistil", "warmup", "--json"]
    for _ in range(2):
        done = subprocess.run(command, check=True, env=os.environ, capture_output=True, text=True)
    assert json.loads(done.stdout)["compiled"] == 0


def test_compiling_is_counted_for_our_kernels_alone():
    before = compilations.count
    for module, more in (("somewhere", 0), ("minidistil.somewhere", 1)):

        def double(x):
            return 2 * x

        double.__module__ = module
        assert njit(double)(3) == 6
        assert compilations.count == before + more
