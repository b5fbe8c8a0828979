"""`import minidistil` must stay light: frameworks are for those who ask for them."""

import json
import subprocess
import sys

HEAVY = ("torch", "transformers", "matplotlib", "pandas", "numba", "numba.cuda", "huggingface_hub")
SCRIPT = "import sys, json, {}; print(json.dumps([m for m in {!r} if m in sys.modules]))"


def loaded_by(module):
    """Which heavy modules a fresh process holds after importing `module`."""
    run = [sys.executable, "-c", SCRIPT.format(module, HEAVY)]
    return json.loads(subprocess.run(run, capture_output=True, check=True, text=True).stdout)


def test_the_package_imports_no_framework():
    assert loaded_by("minidistil") == []


def test_the_command_line_imports_no_framework():
    assert loaded_by("minidistil.cli") == []


def test_the_question_can_be_answered_with_yes():
    assert loaded_by("numba.cuda") == ["numba", "numba.cuda"]
