"""Memory of a distillation step beyond parameters and gradients, measured in a separate process.

    needed = the process's largest resident memory while it takes three steps
             − what was resident before the models were made, their code already loaded
             − the parameters of both models, the student's gradients and AdamW's two moments

Activations, logits, packed weights, reused buffers and everything else that an implementation
allocates count; the arrays that every implementation needs do not.
"""

import resource
import sys
from contextlib import contextmanager, suppress
from pathlib import Path

from minidistil.cli.bench import machine
from minidistil.cli.bench.contestants import Contestants
from minidistil.cli.bench.workloads import chosen, configs_of
from minidistil.model.params import count, shapes
from minidistil.ops import matmul_precision

STEPS = 3
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def needed(name, size, backend, precision, gemm, threads):
    """{"needed": bytes, …} of one contestant in this very process."""
    from minidistil.ops.runtime import cpu

    with cpu.threads(threads), matmul_precision(precision, gemm):
        with _step(name, "tiny", backend, threads) as step:
            step()
        before, compiled = _resident("VmRSS"), cpu.compilations.count
        with _step(name, size, backend, threads) as step:
            with suppress(OSError):
                CLEAR.write_text("5", encoding="utf-8")  # the peak so far, of loading, is forgotten
            for _ in range(STEPS):
                step()
            peak = _resident("VmHWM")
    teacher, student = (4 * count(shapes(c, "fill-mask")) for c in configs_of(size).values())
    arrays = teacher + 4 * student  # parameters, gradients, two moments
    return {"needed": peak - before - arrays, "peak": peak, "before": before, "arrays": arrays,
            "compiled": compiled}  # fmt: skip


@contextmanager
def _step(name, size, backend, threads):
    """One contestant's step, which alone still holds the models."""
    with Contestants(size, None, threads, backend) as contestants:
        (row,) = chosen(["step"], contestants.configs)
        run = contestants.make(name, row)
        contestants.forget()
        yield run.timed


def _resident(what):
    """Bytes of resident memory: now (VmRSS), or at most so far (VmHWM).

    Linux counts into a process's `ru_maxrss` what its parent held when it was started, so that is
    asked only where there is nothing better.
    """
    if STATUS.exists():
        lines = STATUS.read_text(encoding="utf-8").splitlines()
        (line,) = (line for line in lines if line.startswith(what))
        return 1024 * int(line.split()[1])
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    machine.reply(needed)
