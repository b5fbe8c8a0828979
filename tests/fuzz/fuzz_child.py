"""A process that runs one command after another and says what each did.

It reads a JSON line {"argv", "folder"} and answers with another: {"code", "out", "err",
"trace", "peak"}. The parent sees when it dies or takes too long. peak is in MB of memory, and reset
before each command.
"""

import contextlib
import faulthandler
import io
import json
import os
import sys
import traceback
from pathlib import Path

from minidistil.cli import main

HERE = Path("/proc/self")


def reset_peak():
    with contextlib.suppress(OSError):  # a system that cannot
        (HERE / "clear_refs").write_text("5")


def peak():
    """MB that this process has held since `reset_peak`, 0 where the system does not say."""
    with contextlib.suppress(OSError):
        for line in (HERE / "status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) // 1024
    return 0


def run(argv, folder):
    os.chdir(folder)
    out, err, trace, code = io.StringIO(), io.StringIO(), None, None
    sys.stdin = io.TextIOWrapper(io.BytesIO())
    reset_peak()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(argv)
        except SystemExit as stopped:  # --help
            code = stopped.code
        except BaseException:
            trace = traceback.format_exc()
    return {"code": code, "out": out.getvalue(), "err": err.getvalue(), "trace": trace,
            "peak": peak()}  # fmt: skip


def serve(requests, answers, stack, seconds):
    """stack: a file for where a command stands after so many seconds, or when the process dies."""
    faulthandler.enable(stack)
    for line in requests:
        stack.truncate(0)
        faulthandler.dump_traceback_later(seconds, file=stack)
        json.dump(run(**json.loads(line)), answers)
        faulthandler.cancel_dump_traceback_later()
        answers.write("\n")
        answers.flush()


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what C code prints does not mix with the answers
    with Path(os.environ["FUZZ_STACK"]).open("a") as stack:
        serve(sys.stdin, answers, stack, float(os.environ["FUZZ_SECONDS"]))
