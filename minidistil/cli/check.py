"""Where does a PyTorch implementation differ from the model of a folder, and why?

Without --against, transformers' own model of the folder is compared. build() returns a
torch.nn.Module that holds the folder's weights, in any structure and under any names; it may take
the folder as its argument. The exit code is 0 when all agrees, 1 when something differs, 2 when
nothing can be compared.
"""

import html
import importlib.util
import inspect
import os
import sys
from pathlib import Path

from minidistil import files
from minidistil.check import Report, compare
from minidistil.cli.common import Answer, nothing_left
from minidistil.cli.report import PAGE
from minidistil.model.pretrained import resolve

EXAMPLE = "--model weights --against my_bert.py:build"
HEAT = (
    "Errors are relative to float64; the colour says where they are more than float32 explains. "
    "The first difference is framed."
)


def add_options(parser):
    parser.add_argument("--model", required=True, metavar="FOLDER", help="or a name on the hub")
    parser.add_argument("--against", metavar="FILE.py:BUILD", help="a function that gives a module")
    parser.add_argument("--task", help="default: what the model's config says")
    parser.add_argument(
        "--text", nargs="+", metavar="TEXT", help="the batch; default: random words"
    )
    parser.add_argument("--data", metavar="PATH", help="a file whose first lines are the batch")
    parser.add_argument("--seed", type=int, default=0, help="of the random batch")
    parser.add_argument("--out", metavar="DIR", help="where report.html and report.json go")


def run(args):
    if args.text and args.data:
        raise ValueError("--text and --data are two batches; give one of them")
    try:
        folder = resolve(args.model)
        report = _compare(args, folder)
    except (ValueError, OSError, ImportError) as error:
        report = Report.cannot(" ".join(str(error).split()))
    if report.verdict == "cannot-compare":
        print(f"error: cannot compare: {report.reason}", file=sys.stderr)
        return Answer(report.to_dict(), "", report.code)
    text = report.text(colour=sys.stdout.isatty() and not os.environ.get("NO_COLOR"))
    if args.out:
        text += f"\n\nreport: {_write(args.out, args.model, report)}"
    return Answer(report.to_dict(), text, report.code)


def _compare(args, folder):
    module = load_function(args.against)(folder) if args.against else transformers_own(args, folder)
    texts = args.text
    if args.data:
        lines = Path(args.data).read_text(encoding="utf-8").splitlines()
        texts = [line for line in lines if line.strip()][:4]
        if not texts:
            raise ValueError(f"{args.data} holds no line of text")
    return compare(module, folder, task=args.task, texts=texts, seed=args.seed)


def transformers_own(args, folder):
    """The model that transformers makes of a folder, its attention step by step."""
    from minidistil.check.peers import transformers_model

    return transformers_model(folder, args.task)


def load_function(name):
    """ "file.py:function"  ->  a function of the folder, which the file's may take or not.

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

    def call(folder):
        needed = [
            p for p in inspect.signature(function).parameters.values() if p.default is p.empty
        ]
        try:
            return function(folder) if needed else function()
        except Exception as error:
            raise ValueError(f"{name} fails: {type(error).__name__}: {error}") from error

    return call


def _write(out, model, report):
    """report.html and report.json in a folder; returns the path of the page."""
    out = Path(out)
    with nothing_left(out):
        out.mkdir(parents=True, exist_ok=True)
        files.write_json(out / "report.json", report.to_dict())
        path = out / "report.html"
        body = f"<p>{html.escape(HEAT)}</p>{report.html()}"
        title = f"minidistil check — {model}"
        with files.replacing(path) as aside:
            page = PAGE.substitute(title=html.escape(title), body=body)
            aside.write_text(page, encoding="utf-8")
    return path
