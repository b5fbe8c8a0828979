"""Runs commands in a process of their own, again and again, and judges what they did."""

import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).resolve().parent.parent
SECONDS, MEGABYTES, LINE = 60, 2000, 500


class Outcome(NamedTuple):
    """What a command did; code None: it raised, died or was stopped, and trace says how."""

    code: int | None
    out: str
    err: str
    trace: str | None
    peak: int  # MB
    seconds: float


class Runner:
    """`run(argv, folder)`; a process that died or was stopped is replaced at the next call.

    stack: path of a file in which the process says where it stood when it died or was stopped.
    """

    def __init__(self, stack):
        self.child, self.stack = None, stack

    def run(self, argv, folder, seconds=SECONDS):
        if self.child is None:
            self._start()
        started = time.monotonic()
        request = json.dumps({"argv": argv, "folder": str(folder)})
        self.child.stdin.write(request.encode() + b"\n")
        self.child.stdin.flush()
        ready, _, _ = select.select([self.child.stdout], [], [], seconds)
        answer = self.child.stdout.readline() if ready else b""
        took = time.monotonic() - started
        if not answer:
            how = "the process died" if ready else f"no answer in {seconds} seconds"
            code, stack = self.stop(), self.stack.read_text()
            return Outcome(None, "", "", f"{stack}{how} (exit code {code})", 0, took)
        found = json.loads(answer)
        if found["peak"] > MEGABYTES:
            self.stop()  # memory that the allocator keeps would be counted again
        return Outcome(**found, seconds=took)

    def _start(self):
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS / "fuzz")]),
            "HF_HUB_OFFLINE": "1", "NUMBA_NUM_THREADS": "1",
            "FUZZ_STACK": str(self.stack), "FUZZ_SECONDS": str(SECONDS - 5),
        }  # fmt: skip
        self.child = subprocess.Popen(
            [sys.executable, "-m", "fuzz_child"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, env=environment,
        )  # fmt: skip

    def stop(self):
        """The exit code of the process, ended if it has not ended by itself."""
        if self.child is None:
            return None
        child, self.child = self.child, None
        child.stdin.close()
        try:
            return child.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            child.kill()
            return child.wait()
        finally:
            child.stdout.close()


def faults(outcome, argv, before, after):
    """What is wrong with an outcome, each in a line; before, after: the files around."""
    if outcome.code is None:
        return [f"no exit code: {_last(outcome.trace)}"]
    found = []
    lines = outcome.err.splitlines()
    errors = [line for line in lines if not line.startswith("warning: ")]
    reports = argv[0] == "check" and outcome.out and not errors  # that values differ, or too few
    answers = outcome.code == 0 or (outcome.code in (1, 2) and reports)
    if outcome.code != 2 and not answers and not (outcome.code == 1 and _not_finite(errors)):
        found.append(f"exit code {outcome.code}")
    if outcome.peak > MEGABYTES:
        found.append(f"{outcome.peak} MB of memory")
    if any(len(line) >= LINE for line in lines):
        found.append(f"a line of {max(map(len, lines))} characters")
    if "--lines" in argv:  # names every bad line, and then ends with 2
        errors = errors[-1:]
    if not answers and not (len(errors) == 1 and errors[0].startswith("error: ")):
        found.append(f"{len(errors)} lines for an error")
    if not answers and after != before:
        found.append(f"left behind: {', '.join(sorted(after ^ before)[:3])}")
    if answers:
        found += [f"a line on stderr: {line[:80]}" for line in errors[:1]]
        if "--json" in argv:
            found += _not_json(outcome.out)
    return found


def _not_finite(errors):
    """Whether training stopped at a number that is not finite: found in the course of it."""
    return any(word in line for line in errors for word in ("NaN", "nan", "infinit", "inf "))


def _not_json(text):
    def refuse(name):
        raise ValueError(f"a bare {name}")

    try:
        for line in text.splitlines() if text[:1] not in "[{" or "\n{" in text else [text]:
            json.loads(line, parse_constant=refuse)
    except ValueError as error:
        return [f"--json prints {error}"]
    return []


def _last(trace):
    """The last line of a traceback and the place in the package that it comes from."""
    lines = trace.strip().splitlines()
    places = [line.strip() for line in lines if "/minidistil/" in line and "File" in line]
    innermost = places[0 if "most recent call first" in trace else -1] if places else ""
    place = innermost.split("/minidistil/")[-1].replace('"', "")
    return f"{lines[-1][:120]} [{place}]"
