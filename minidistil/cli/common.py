"""What the commands share: options, the run folder, and leaving nothing behind after bad input."""

import argparse
import math
import sys
import warnings
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from minidistil import files
from minidistil.cli.inputs import MADE, PATHS, inputs_of_options
from minidistil.data.images import DIGITS
from minidistil.data.sources import MOVIE_REVIEWS
from minidistil.lock import InUseError
from minidistil.model.checkpoint import STORED
from minidistil.ops import GEMMS, PRECISIONS, matmul_precision
from minidistil.train.best import sentence
from minidistil.train.config import BUDGETS, KEPT, OPTIMIZERS, TrainConfig
from minidistil.train.run import Run
from minidistil.train.schedule import SCHEDULES

MAY_CHANGE = ("baselines", "store")  # when a run is resumed: they change no number of its student
NOT_STORED = ("run", "json", "out", "resume", "threads", "until_the_end")  # change no number
QUIET_SECONDS = 2  # a progress bar shows up for what takes longer


@dataclass(frozen=True)
class Answer:
    """What a command found: `data` for --json, `text` for people."""

    data: object
    text: str
    code: int = 0


# ------------------------------------------------------- options


def number_or_share(text):
    """ "500" is a number of documents, "0.02" a share of them."""
    value = int(text) if text.isdecimal() else float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number from 0 up, not {text!r}")
    return value


def number_list(text):
    """ "0.7,0.3" -> (0.7, 0.3)."""
    return tuple(float(part) for part in text.split(","))


def add_model_options(parser):
    parser.add_argument("--backend", default="cpu", help="cpu (default), cuda or numpy")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads; default: all cores")
    parser.add_argument(
        "--matmul-precision", default="highest", choices=PRECISIONS,
        help="of CUDA's matrix products: float32 (default), tf32 or bfloat16",
    )  # fmt: skip
    parser.add_argument(
        "--gemm", default="own", choices=GEMMS, help="who computes them; cublas needs cupy"
    )


def add_inference_options(parser):
    add_model_options(parser)
    parser.add_argument(
        "--dtype", help="float32, bfloat16 or int8; default: int8 for a folder quantised so"
    )


def add_store_option(parser):
    parser.add_argument(
        "--store", default="float32", choices=list(STORED), help="how the weights are saved"
    )


def add_run_options(parser):
    parser.add_argument("--out", metavar="DIR", help="run folder; default: runs/COMMAND")
    parser.add_argument(
        "--resume", action="store_true", help="go on with the run in --out, with its own options"
    )
    parser.add_argument("--seed", type=int, default=0, help="of weights, order, masks and dropout")
    add_model_options(parser)


def add_training_options(parser, lr, schedule="linear", weight_decay=0.01, batch_tokens=4096):
    """Budget, optimiser and intervals: the fields of TrainConfig."""
    group = parser.add_argument_group("training")
    group.add_argument("--steps", type=int, metavar="N", help="budget: updates of the weights")
    group.add_argument("--tokens", type=int, metavar="N", help="budget: tokens seen")
    group.add_argument("--minutes", type=float, metavar="M", help="budget: time, made into steps")
    group.add_argument("--epochs", type=int, metavar="N", help="budget: rounds through the text")
    group.add_argument("--batch-tokens", type=int, default=batch_tokens, metavar="N")
    group.add_argument("--accumulate", type=int, default=1, metavar="N",
                       help="batches a step, which count as one batch would")  # fmt: skip
    group.add_argument("--optimizer", default="adamw", help=f"{', '.join(OPTIMIZERS)} (adamw)")
    group.add_argument("--lr", type=float, default=lr, help=f"highest learning rate ({lr:g})")
    group.add_argument("--betas", type=number_list, default=TrainConfig.betas, metavar="B,B",
                       help="how much the moments keep of themselves (0.9,0.999)")  # fmt: skip
    group.add_argument("--eps", type=float, default=TrainConfig.eps, metavar="E",
                       help=f"beside the second one's root ({TrainConfig.eps:g})")  # fmt: skip
    group.add_argument("--schedule", default=schedule, help=f"{', '.join(SCHEDULES)} ({schedule})")
    group.add_argument(
        "--warmup", type=float, default=0.05, help="a share of the steps, or their number (0.05)"
    )
    group.add_argument("--weight-decay", type=float, default=weight_decay, metavar="W")
    group.add_argument("--max-grad-norm", type=float, default=1.0, metavar="G", help="0: no clip")
    for what in ("log", "eval", "checkpoint"):
        group.add_argument(f"--{what}-every", type=int, metavar="STEPS")
    group.add_argument(
        "--patience", type=int, metavar="N",
        help="stop after N evaluations in a row (see --eval-every) that were no better; default: "
        "after the last step",
    )  # fmt: skip
    group.add_argument(
        "--keep", default="last", choices=KEPT,
        help="which model is saved: the last, or the one whose evaluation was the best (last)",
    )  # fmt: skip
    group.add_argument(
        "--measure", metavar="NAME",
        help="which number of an evaluation --patience and --keep best go by, such as loss; "
        "default: the task's own, such as accuracy, f1 or bleu",
    )  # fmt: skip


def train_config(args, **default_budget):
    """The TrainConfig that the options describe; the budget is the default where none is given."""
    budget = {name: getattr(args, name) for name in BUDGETS}
    if all(value is None for value in budget.values()):
        budget |= default_budget
    names = ("optimizer", "lr", "betas", "eps", "schedule", "warmup", "weight_decay",
             "max_grad_norm", "accumulate", "batch_tokens", "log_every", "eval_every",
             "checkpoint_every", "seed", "backend", "patience", "keep")  # fmt: skip
    return TrainConfig(**budget, **{name: getattr(args, name) for name in names})


# ------------------------------------------------------- parsing and resuming


def parse(parser, argv):
    """The options of a command; with --resume those of the run, which none given may contradict."""
    args = parser.parse_args(argv)
    if not getattr(args, "resume", False):
        return args
    if args.out is None:
        raise ValueError("--resume needs --out, the folder of the run to go on with")
    begun = Run(args.out, resume=True)
    if begun.command != parser.prog:
        raise ValueError(f"{args.out} was begun by {begun.command}; resume it with that command")
    stored = begun.options
    for name, given in parser.given(argv, stored).items():
        began, given = stored[name], _stored(name, given)
        if name in MAY_CHANGE:
            stored[name] = given
        elif given != began:
            raise ValueError(
                f"a resumed run keeps the options it began with: --{name.replace('_', '-')} was "
                f"{began!r}, now {given!r}; leave it out, or start a new run elsewhere"
            )
    vars(args).update(stored)
    return args


@contextmanager
def settings_of(args):
    """What a command runs in: on --threads cores, with --matmul-precision of --gemm; what it enters
    into args.until_the_end is left when it ends."""
    count, precision = getattr(args, "threads", None), getattr(args, "matmul_precision", "highest")
    gemm = getattr(args, "gemm", "own")
    if (precision, gemm) != ("highest", "own") and args.backend != "cuda":
        raise ValueError(
            f"--matmul-precision {precision} --gemm {gemm} needs --backend cuda: "
            f"{args.backend} computes its products in one way"
        )
    with ExitStack() as stack:
        args.until_the_end = stack
        stack.enter_context(matmul_precision(precision, gemm))
        if count is not None:
            from minidistil.ops import _cpu

            stack.enter_context(_cpu.threads(count))
        yield


def _stored(name, value):
    """An option as run.json keeps it: a path from the root on, so that a run can be resumed from
    anywhere; a tuple as a list."""
    if isinstance(value, list | tuple):
        return [_stored(name, one) for one in value]
    if name not in PATHS or value in (None, "", MOVIE_REVIEWS, DIGITS):
        return value
    there = name in MADE or Path(value).exists()  # else a name on the hub
    return str(Path(value).resolve()) if there else value


def open_run(args, command):
    """The Run that the options ask for, new or to be resumed; args.out is then its folder, which no
    other process writes into until the command ends."""
    chosen_here = args.out is None
    while True:
        if chosen_here:
            args.out = _free_folder(command)
        run = Run(args.out, f"minidistil {command}", resume=args.resume)
        try:
            args.until_the_end.enter_context(run.held())
            break
        except InUseError:  # another start chose the same name at the same moment
            if not chosen_here:
                raise
    run.know(inputs_of_options(args, command))
    keep_options(run, args)
    return run


def keep_options(run, args):
    """What a command chose where nothing was said is kept, too: who resumes the run may say so."""
    run.options = {k: _stored(k, v) for k, v in vars(args).items() if k not in NOT_STORED}


def _free_folder(command):
    folder, number = Path("runs") / command, 1
    while folder.exists():
        number += 1
        folder = Path("runs") / f"{command}-{number}"
    return str(folder)


@contextmanager
def nothing_left(out):
    """After an error takes everything new out of the folder, unless a checkpoint is there to keep.

    A folder that was not there is removed, with the parents made for it.
    """
    out = Path(out)
    missing = [p for p in (out, *out.parents) if not p.exists()]
    before = set(out.iterdir()) if out.is_dir() else set()
    try:
        yield
    except (ValueError, OSError, ImportError, KeyboardInterrupt):
        if not any(out.glob("checkpoints/step-*")):
            for path in set(out.iterdir()) - before if out.is_dir() else ():
                files.remove(path)
            files.remove_empty(*missing)
        raise


@contextmanager
def said_once(args):
    """What a model's folder is warned of when a run begins is not repeated when it is resumed."""
    with warnings.catch_warnings():
        if args.resume:
            warnings.simplefilter("ignore")
        yield


def progress(iterable, description, **options):
    """The iterable behind a bar on stderr, shown after two seconds and on terminals only."""
    return tqdm(
        iterable, desc=description, file=sys.stderr, disable=None, delay=QUIET_SECONDS,
        dynamic_ncols=True, leave=False, **options,
    )  # fmt: skip


def summarised(found):
    """The closing lines of a training command."""
    measured = ", ".join(f"{name} {value:.4f}" for name, value in found["evaluation"].items())
    kept = f"{sentence(found['kept'])}\n" if "kept" in found else ""
    return (
        f"{found['step']} steps, {found['tokens']:,} tokens, {found['time']['seconds'] / 60:.1f} "
        f"minutes\nheld out: {measured}\n{kept}model and report: {found['out']}"
    )


def table(header, rows):
    """Rows of str as text: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = []
    for first, *others in (header, *rows):
        cells = [f"{x:>{w}}" for x, w in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([f"{first:<{widths[0]}}", *cells]).rstrip())
    return "\n".join(lines)
