"""Eight CUDA kernels to write, on a simulated device, for the notebooks.

    draw("block_sum")                 # which thread of the solution reads and writes which cell
    check("block_sum", my_kernel)     # right, wrong and why, or still empty; and its own picture
    solution("block_sum")             # prints it

A kernel is a function decorated with @cuda.jit, as it would be launched on a device. `check` runs
it in Numba's simulator on arrays that record every access (`recorder.py`), looks for races, missing
barriers and wasted bandwidth (`faults.py`), and compares its result with the op in NumPy. Each
puzzle is a file: specification, solution, and wrong kernels with what is said about them.
"""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec

if find_spec("greenlet") is None:
    raise ModuleNotFoundError("the puzzles simulate a device with greenlet: pip install greenlet")

from minidistil.puzzles.faults import WASTES
from minidistil.puzzles.picture import Picture
from minidistil.puzzles.picture import draw as _draw
from minidistil.puzzles.puzzle import Puzzle

NAMES = (
    "relu_map", "guarded_add", "block_sum", "softmax_row", "layernorm_row", "transposition",
    "tiled_product", "attention_tile",
)  # fmt: skip

__all__ = ["NAMES", "check", "draw", "find", "solution"]


def find(name: str) -> Puzzle:
    """The puzzle of this name. Raises ValueError with the known names if there is none."""
    if name not in NAMES:
        raise ValueError(f"no puzzle is named {name!r}; known: {', '.join(NAMES)}")
    return import_module(f"minidistil.puzzles.{name}").PUZZLE


def draw(name: str) -> Picture:
    """The picture of a recorded run of the solution."""
    puzzle = find(name)
    return _draw(puzzle.run(puzzle.solution))


def check(name: str, kernel: Callable) -> Picture | None:
    """Run a kernel, and print what is wrong with it, or that it is right  ->  its picture."""
    puzzle = find(name)
    found, wanted = (", ".join(_parameters(k)) for k in (kernel, puzzle.solution))
    if found.count(",") != wanted.count(","):
        print(f"✗ {name}: its parameters are ({found}), wanted ({wanted})")
        return None
    record = puzzle.run(kernel)
    if not record.accesses and record.error is None:
        print(f"○ {name} is still empty: write it, then run this cell again")
        return None
    fault = puzzle.fault(record)
    if fault is None:
        print(f"✓ {name} is right")
    else:
        note = ", the numbers are right" if fault.kind in WASTES else ""
        print(f"✗ {name}: {fault.kind}{note}\n  Diagnosis: {fault.sentence}")
    return _draw(record, fault.accesses if fault else ()) if record.accesses else None


def _parameters(kernel):
    code = getattr(kernel, "py_func", kernel).__code__
    return code.co_varnames[: code.co_argcount]


def solution(name: str) -> None:
    """Print the solution."""
    print(find(name).source())
