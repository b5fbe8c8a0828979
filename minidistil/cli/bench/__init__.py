"""The speed of minidistil on this machine, compared with PyTorch, ONNX Runtime and NumPy.

All contestants have the same weights, the same words and the same number of threads. Answers are
compared before anything is timed, and a peer that disagrees gets an error instead of a number.
Runs are interleaved, so that other load on the machine affects all alike.

The rows are DistilBERT and BERT on full and on real, uneven batches, in float32, bfloat16 and int8;
linear layers and attention alone; a whole distillation step as Hugging Face's distiller takes it,
with its optimiser; all cores against one; more batch sizes and lengths; and the memory of a step.

Each table names the instructions that matrix products ran on. --roofline compares each row of
minidistil with what the machine's peaks and its memory allow.
"""

from importlib.util import find_spec
from pathlib import Path

from minidistil.cli.bench import machine, results_table, roofline, roofline_picture
from minidistil.cli.bench.contestants import OURS, PEERS, TORCH, missing
from minidistil.cli.bench.workloads import KERNELS, MEMORY, QUICK, SIZES, chosen, configs_of
from minidistil.cli.command_parser import add_model
from minidistil.cli.options import add_model_options
from minidistil.io.console import Answer, progress
from minidistil.io.outputs import check_file

EXAMPLE = "--quick --threads 1 --plot bench.png"
ROUNDS, SECONDS = 11, 60
QUICK_ROUNDS = 3
NONE = "none"
TABLE = True  # --roofline without a file


def names(text):
    """ "a,b" -> ["a", "b"]; NONE -> []."""
    return [part for part in text.split(",") if part not in ("", NONE)]


def add_options(parser):
    parser.add_argument(
        "--rows", type=names, metavar="NAME,…",
        help="rows, or groups of them: inference, sentences, bfloat16, int8, linear, attention, "
        "distillation, threads, scaling, memory; default: all. kernels: CUDA's, one by one, and "
        "nothing else",
    )  # fmt: skip
    parser.add_argument(
        "--peers", type=names, default=list(PEERS), metavar="NAME,…",
        help=f"default: {','.join(PEERS)}; numpy is minidistil with NumPy's matrix products, "
        f"{NONE} is minidistil alone",
    )  # fmt: skip
    parser.add_argument(
        "--quick", action="store_true", help=f"only a few rows, in {QUICK_ROUNDS} rounds"
    )
    add_model(parser, "or a name on the hub; default: random weights")
    parser.add_argument(
        "--size", default="base", choices=list(SIZES), help="of the random models (base)"
    )
    parser.add_argument(
        "--rounds", type=int, metavar="N", help=f"at most; at least 3; default: {ROUNDS}"
    )
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, metavar="S",
        help=f"after which a row begins no further round ({SECONDS})",
    )  # fmt: skip
    parser.add_argument(
        "--clock", default="wall", choices=("wall", "cpu"),
        help="cpu: processor time, for a machine that is busy; needs --threads 1",
    )  # fmt: skip
    parser.add_argument("--plot", metavar="FILE", help="draw a picture (.png); needs matplotlib")
    parser.add_argument(
        "--roofline", nargs="?", const=TABLE, metavar="FILE",
        help="measure this machine's peaks too, and compare each row with what they allow: a "
        "table, and with FILE (.png, .svg) a picture",
    )  # fmt: skip
    add_model_options(parser)


def run(args):
    from minidistil.ops.runtime.cpu import cores

    rows, with_memory = _asked(args)
    if args.rows == [KERNELS]:
        return _kernels(args)
    absent = missing(args.peers)
    peers = [name for name in args.peers if name not in absent]
    threads = args.threads or cores()
    rounds = args.rounds or (QUICK_ROUNDS if args.quick else ROUNDS)
    common = {"size": args.size, "backend": args.backend, "precision": args.matmul_precision,
              "gemm": args.gemm}  # fmt: skip
    found = machine.ask(
        "minidistil.cli.bench.timing", threads, **common, rows=rows, peers=peers,
        model=args.model, rounds=rounds, seconds=args.seconds, clock=args.clock,
        roofline=args.roofline is not None,
    )  # fmt: skip
    found |= {"missing": absent, "memory": None}
    if with_memory:
        contest = [OURS, *(name for name in peers if name in TORCH)]
        found["memory"] = {name: _memory(name, threads, common)
                           for name in progress(contest, "memory")}  # fmt: skip
    text = results_table.text(found)
    if found["ceilings"]:
        text += "\n\n" + roofline.text(found)
    if args.plot:
        results_table.draw(Path(args.plot), found)
        text += f"\n\nplot: {args.plot}"
    if picture := _picture(args):
        roofline_picture.draw(Path(picture), found)
        text += f"\n\nroofline: {picture}"
    wrong = [c for row in found["rows"] for c in row["contestants"].values() if "error" in c]
    return Answer(found, text, 1 if wrong else 0)


def _kernels(args):
    from minidistil.cli.bench import cuda_kernels

    if args.backend != "cuda":
        raise ValueError(f"--rows {KERNELS} needs --backend cuda, not {args.backend}")
    found = cuda_kernels.measure(args.size)
    return Answer(found, cuda_kernels.text(found))


def _asked(args):
    """Names of rows, and whether memory is measured too. Raises ValueError for what is not there,
    before anything is measured."""
    unknown = [name for name in args.peers if name not in PEERS]
    if unknown:
        raise ValueError(f"no peer is called {unknown[0]!r}; choose of {', '.join(PEERS)}")
    for name in ("rounds", "seconds"):
        value = getattr(args, name)
        if value is not None and not value > 0:
            raise ValueError(f"--{name} must be above 0, not {value}")
    if args.clock == "cpu" and args.threads != 1:
        raise ValueError("--clock cpu needs --threads 1: waiting costs no processor time")
    for option, file in (("--plot", args.plot), ("--roofline", _picture(args))):
        if file and find_spec("matplotlib") is None:
            raise ModuleNotFoundError(f"{option} needs matplotlib: pip install 'minidistil[bench]'")
        if file:
            check_file(file, "a picture of bench", results_table.is_drawn)
    if args.roofline is not None and args.backend != "cpu":
        raise ValueError(
            f"--roofline needs --backend cpu, not {args.backend}; --rows {KERNELS} has the "
            f"ceilings of a device"
        )
    if (file := _picture(args)) and Path(file).suffix not in roofline_picture.FORMATS:
        raise ValueError(f"--roofline draws .png or .svg, not {Path(file).name}")
    if args.rows == [KERNELS]:
        return [], False
    if args.rows is None:
        return ([QUICK], False) if args.quick else (None, args.model is None)
    rows = [name for name in args.rows if name != MEMORY]
    if args.model is None and rows:
        chosen(rows, configs_of(args.size))
    return rows, MEMORY in args.rows


def _picture(args):
    """The file of --roofline; None where a table is enough."""
    return None if args.roofline is TABLE else args.roofline


def _memory(name, threads, common):
    """Measured again where kernels had to be compiled: the compiler's memory is not the step's."""
    for _ in range(2):
        found = machine.ask("minidistil.cli.bench.step_memory", threads, name=name, **common)
        if not found["compiled"]:
            break
    return found
