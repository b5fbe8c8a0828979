"""The options of a run: parsed, stored in its folder, and read again when it is resumed."""

from contextlib import ExitStack, contextmanager
from pathlib import Path

from minidistil.cli.input_files import MADE, PATHS, inputs_of_options
from minidistil.data.sources import MOVIE_REVIEWS
from minidistil.io import files
from minidistil.io.counts import counted
from minidistil.io.lock import InUseError
from minidistil.io.ranks import world
from minidistil.ops import matmul_precision
from minidistil.tasks.image_classification.data import DIGITS
from minidistil.train.best import sentence
from minidistil.train.run_folder import Run

MAY_CHANGE = ("baselines", "store")  # of a resumed run: no number of its student changes
NOT_STORED = ("run", "json", "out", "resume", "threads",  # these change no number
              "until_the_end", "usual_lr")  # fmt: skip


def parse(parser, argv):
    """The options of a command; with --resume those of the run, which others may not contradict.

    Also sets `given`, the names of the options on the command line; of a resumed run, on the one
    that began it.
    """
    args = parser.parse_args(argv)
    if not getattr(args, "resume", False):
        args.given = [n for n in parser.given(argv, vars(args)) if n not in NOT_STORED]
        return args
    if args.out is None:
        raise ValueError("--resume needs --out, the folder of the run to continue")
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
    """The settings in which a command runs: --threads cores, --matmul-precision and --gemm. What it
    enters into args.until_the_end is left when it ends."""
    count, precision = getattr(args, "threads", None), getattr(args, "matmul_precision", "highest")
    gemm = getattr(args, "gemm", "own")
    if precision != "highest" and args.backend == "numpy":
        raise ValueError(
            f"--matmul-precision {precision} needs --backend cuda or cpu: numpy computes its "
            f"products in one way"
        )
    if gemm != "own" and args.backend != "cuda":
        raise ValueError(f"--gemm {gemm} needs --backend cuda, not {args.backend}")
    if count is None and (together := world().sharing_cores()) > 1:
        from minidistil.ops.runtime import cpu

        count = max(1, cpu.cores() // together)
    with ExitStack() as stack:
        args.until_the_end = stack
        stack.enter_context(matmul_precision(precision, gemm))
        if count is not None:
            from minidistil.ops.runtime import cpu

            stack.enter_context(cpu.threads(count))
        yield


def _stored(name, value):
    """An option as run.json stores it: a path as an absolute one, so that a run can be resumed from
    any folder; a tuple as a list."""
    if isinstance(value, list | tuple):
        return [_stored(name, one) for one in value]
    if name not in PATHS or value in (None, "", MOVIE_REVIEWS, DIGITS):
        return value
    there = name in MADE or Path(value).exists()  # else a name on the hub
    return str(Path(value).resolve()) if there else value


def open_run(args, command):
    """The Run that the options ask for, new or to be resumed; args.out is then its folder, locked
    against other processes until the command ends."""
    chosen_here = args.out is None
    while True:
        if chosen_here:
            args.out = world().first(lambda: _free_folder(command))
        run = Run(args.out, f"minidistil {command}", resume=args.resume)
        try:
            args.until_the_end.enter_context(run.held())
            break
        except InUseError:  # another start chose the same name at the same moment
            if not chosen_here or world().size > 1:
                raise
    run.know(inputs_of_options(args, command))
    keep_options(run, args)
    apart = {k: v for k, v in run.options.items() if k not in PATHS}  # digests stand for files
    world().refuse_differences({f"--{k.replace('_', '-')}": v for k, v in apart.items()})
    return run


def keep_options(run, args):
    """Store the options with the defaults that the command chose: a resumed run may repeat them."""
    run.options = {k: _stored(k, v) for k, v in vars(args).items() if k not in NOT_STORED}


def _free_folder(command):
    folder, number = Path("runs") / command, 1
    while folder.exists():
        number += 1
        folder = Path("runs") / f"{command}-{number}"
    return str(folder)


@contextmanager
def nothing_left(out):
    """After an error, remove everything new from the folder, unless it holds a checkpoint.

    A folder that was not there is removed, with the parents made for it.
    """
    if world().rank:  # rank 0 alone writes
        yield
        return
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


def summarised(found):
    """The closing lines of a training command."""
    measured = ", ".join(f"{name} {value:.4f}" for name, value in found["evaluation"].items())
    kept = f"{sentence(found['kept'])}\n" if "kept" in found else ""
    return (
        f"{counted(found['step'], 'step')}, {counted(found['tokens'], 'token')}, "
        f"{found['time']['seconds'] / 60:.1f} minutes\nheld out: {measured}\n"
        f"{kept}model and report: {found['out']}"
    )
