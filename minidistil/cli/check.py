"""Where does an implementation differ from the model of a folder, and why?

Without --against, transformers' own model of the folder is compared. build() returns a
torch.nn.Module that holds the folder's weights, in any structure and under any names; it may take
the folder as its argument.

A loss takes student_logits, teacher_logits, labels, attention_mask, student_hidden, teacher_hidden,
temperature, alpha_ce, alpha_mlm, alpha_cos (any subset), or (student, teacher, batch), and
returns a number or a dict of parts. An optimiser is made from a model or its parameters, and lr,
betas, eps, weight_decay, max_grad_norm, warmup_steps, total_steps; the function returns an
optimiser, (optimiser, scheduler), or a function that does all that follows the backward pass.

An implementation in another language writes what it computes on the batch of `minidistil trace
FOLDER --inputs-only` into a .safetensors or .npz file: its outputs, and any other values and
gradients of the loss of `trace`, in float32 or float64, under any names and in any usual layout.
--against-trace compares them as it does a module's.

The exit code is 0 if everything agrees, 1 if something differs, 2 if nothing can be compared.
"""

import importlib.util
import inspect
import os
import sys
from itertools import islice
from pathlib import Path

from minidistil.check import Report, compare, compare_loss, compare_optimizer, compare_trace
from minidistil.check.compare import STEPS
from minidistil.check.peers import transformers_model
from minidistil.cli import html_page
from minidistil.cli.batch_options import add_batch, given_batch
from minidistil.cli.check_words import page
from minidistil.cli.command_parser import add_model
from minidistil.cli.run_options import nothing_left
from minidistil.data.sources import lines
from minidistil.io import files
from minidistil.io.console import Answer, one_line, progress
from minidistil.io.outputs import check_file
from minidistil.model.pretrained import resolve

EXAMPLE = "--model weights --against my_bert.py:build"
TITLE = "minidistil check"


def add_options(parser):
    add_model(parser, "or a name on the hub", required=True)
    parser.add_argument("--against", metavar="FILE.py:BUILD", help="a function that gives a module")
    parser.add_argument("--against-trace", metavar="FILE", help="values of another implementation")
    parser.add_argument(
        "--inputs", metavar="FILE", help="of trace --inputs-only: the batch of --against-trace"
    )
    parser.add_argument("--teacher", metavar="FOLDER", help="whose layers a student copied")
    parser.add_argument("--loss", metavar="FILE.py:F", help="a distillation loss to compare")
    parser.add_argument("--optimizer", metavar="FILE.py:F", help="makes an optimiser to compare")
    parser.add_argument("--task", help="default: what the model's config says")
    add_batch(parser)
    parser.add_argument("--data", metavar="PATH", help="a file whose first lines are the batch")
    parser.add_argument("--out", metavar="DIR", help="where report.html and report.json go")


def run(args):
    if args.text and args.data:
        raise ValueError("--text and --data are two batches; give one of them")
    if args.against and args.against_trace:
        raise ValueError("--against and --against-trace are two implementations; give one of them")
    if args.inputs and not args.against_trace:
        raise ValueError("--inputs is the batch of --against-trace; give both")
    if args.inputs and (args.text or args.data or args.image):
        raise ValueError("--inputs and --text, --data or --image are two batches; give one of them")
    if args.out:
        _check_out(Path(args.out))
    try:
        folder = resolve(args.model)
        report = _everything(args, folder)
    except (ValueError, OSError, ImportError) as error:
        report = Report.cannot(" ".join(str(error).split()))
    if not report.rows:
        print(one_line(f"error: cannot compare: {report.reason}"), file=sys.stderr)
        return Answer(report.to_dict(), "", report.code)
    text = report.text(colour=sys.stdout.isatty() and not os.environ.get("NO_COLOR"))
    if args.out:
        text += f"\n\nreport: {_write(args, report)}"
    return Answer(report.to_dict(), text, report.code)


def _everything(args, folder):
    """The reports on the model, the loss and the optimiser that the options name."""
    teacher = resolve(args.teacher) if args.teacher else None
    parts = []
    if args.against_trace:
        parts.append(_trace(args, folder))
    elif args.against or not (args.loss or args.optimizer):
        parts.append(_model(args, folder, teacher))
    if args.loss:
        parts.append(compare_loss(function_of(args.loss), folder, teacher, args.seed))
    if args.optimizer:
        parts.append(compare_optimizer(function_of(args.optimizer), args.seed))
    report = parts[0]
    for part in parts[1:]:
        report.add(part)
    return report


def _trace(args, folder):
    texts, batch = given_batch(args, folder, _texts(args))
    return compare_trace(
        args.against_trace, folder, batch, task=args.task, texts=texts, inputs=args.inputs,
        seed=args.seed,
    )  # fmt: skip


def _texts(args):
    """The texts of the batch; None for random words."""
    if not args.data:
        return args.text
    texts = list(islice((line for _, line in lines(Path(args.data)) if line.strip()), 4))
    if not texts:
        raise ValueError(f"{args.data} holds no line of text")
    return texts


def _model(args, folder, teacher):
    texts, batch = given_batch(args, folder, _texts(args))
    own = not args.against
    module = transformers_model(folder, args.task) if own else built(args.against, folder)
    with progress(None, "comparing", total=len(STEPS)) as bar:

        def tell(step):
            bar.set_description_str(step, refresh=False)
            bar.update(STEPS.index(step) - bar.n)

        return compare(
            module, folder, batch, task=args.task, texts=texts, teacher=teacher, seed=args.seed,
            tell=tell,
        )  # fmt: skip


def function_of(name):
    """ "file.py:function"  ->  the function.

    Raises ValueError for a name that is not of this form, a file that fails, or no such function.
    """
    file, _, attribute = name.rpartition(":")
    if not file.endswith(".py") or not attribute:
        raise ValueError(f"{name!r} must be a file and a function in it, such as my_bert.py:build")
    if not Path(file).is_file():
        raise ValueError(f"{file} is no file")
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(Path(file).resolve().parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(f"{file} fails: {type(error).__name__}: {error}") from error
    finally:
        sys.path.pop(0)
    function = getattr(module, attribute, None)
    if not callable(function):
        raise ValueError(f"{file} has no function {attribute!r}")
    return function


def built(name, folder):
    """The module that a function makes, of the folder if it takes an argument."""
    function = function_of(name)
    needed = [p for p in inspect.signature(function).parameters.values() if p.default is p.empty]
    try:
        return function(folder) if needed else function()
    except Exception as error:
        raise ValueError(f"{name} fails: {type(error).__name__}: {error}") from error


def _check_out(out):
    """Raises ValueError where the folder holds reports of something else, such as a run's."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; --out needs a folder")
    check_file(out / "report.html", "a report of check", _is_own_page)
    check_file(out / "report.json", "a report of check", _has_verdict)


def _is_own_page(path):
    return html_page.is_page(path, TITLE)


def _has_verdict(path):
    try:
        return "verdict" in files.read_json(path)
    except (ValueError, TypeError):
        return False


def _write(args, report):
    """report.html and report.json in a folder; returns the path of the page."""
    out = Path(args.out)
    with nothing_left(out):
        files.write_json(out / "report.json", report.to_dict())
        path = out / "report.html"
        title = f"{TITLE} — {args.model}"
        files.write_bytes(path, html_page.page(title, page(args, report)))
    return path
