"""Write every intermediate value and gradient of a model on texts or images, to compare with an
implementation in another language.

The file holds input.*, value.*, gradient.* (of the loss with respect to each value) and
parameter_gradient.* in float32, and the loss: the mean cross-entropy of all tokens with themselves
as labels, in GPT-2 and in an encoder-decoder of all tokens' successors; for a classifier of texts,
tokens, choices or images, of its first class; for question answering, of an answer that starts and
ends at the first token; for a body, half the sum of squares of its last hidden states. The input.*
are the batch and the labels of this loss. Arrays are (B,T,·), with zeros at the padding.

--inputs-only writes the input.* alone, int64, for a program in another language to read. The
header of the file then has, under __metadata__, what the program needs of the model: n_layers,
n_heads, eps, activation, and for each parameter its name in model.safetensors, such as
"layer.0.q.weight": "distilbert.transformer.layer.0.attention.q_lin.weight". The values that the
program computes are compared by `minidistil check --model FOLDER --against-trace FILE`.

--html writes a page instead, on which one text goes forward through every operation and its
gradient comes back: equations, NumPy code, values and gradients as maps; --teacher shows the same
steps of a teacher beside it. The page is one file that needs no network.
"""

from pathlib import Path

from safetensors import SafetensorError, safe_open

from minidistil.check.families.family import program_of
from minidistil.check.reference_batch import load
from minidistil.check.trace_values import about_model, inputs_of, trace
from minidistil.cli.batch_options import add_batch, given_batch
from minidistil.cli.command_parser import add_model
from minidistil.cli.html_page import is_page
from minidistil.cli.step_page import TITLE, layer_pairs, page_bytes, traced
from minidistil.data.preprocessor import load_preprocessor, same_preprocessing
from minidistil.io import files
from minidistil.io.console import Answer, table
from minidistil.io.counts import counted
from minidistil.io.outputs import check_file
from minidistil.model.pretrained import resolve

KINDS = ("input", "value", "gradient", "parameter_gradient", "loss")
EXAMPLE = 'weights --text "The movie was great." --out trace.safetensors'


def add_options(parser):
    add_model(parser, "or a name on the hub", required=True)
    add_batch(parser)
    parser.add_argument("--task", help="default: what the model's config says")
    parser.add_argument("--inputs-only", action="store_true", help="the batch, and no values")
    parser.add_argument("--html", metavar="FILE", help="a page of steps, of one --text")
    parser.add_argument("--teacher", metavar="FOLDER", help="of --html: a model to show beside it")
    parser.add_argument(
        "--out", metavar="FILE", help="default: trace.safetensors, or inputs.safetensors"
    )


def _is_trace(path):
    """Whether every tensor of a file has a name that a trace gives."""
    try:
        with safe_open(path, "np") as found:
            return all(name.partition(".")[0] in KINDS for name in found.keys())  # noqa: SIM118
    except SafetensorError:
        return False


def run(args):
    if args.html:
        return _page(args)
    if args.teacher:
        raise ValueError("--teacher is shown on a page beside the model: give --html FILE as well")
    default = "inputs.safetensors" if args.inputs_only else "trace.safetensors"
    folder, out = resolve(args.model), Path(args.out or default)
    if not out.parent.is_dir():
        raise ValueError(f"--out: {out.parent} is not a folder")
    check_file(out, "a trace", _is_trace)
    model = load(folder, args.task)
    texts, batch = given_batch(args, folder, args.text)
    batch = batch or program_of(model).example(model, folder, texts, args.seed)
    batch = _without_types(model, batch)
    return _inputs(out, model, batch) if args.inputs_only else _everything(out, model, batch)


def _page(args):
    """Write the page of --html."""
    if args.out or args.inputs_only or args.target or args.image:
        raise ValueError(
            "--html writes a page of one --text: leave --out, --inputs-only, --target, --image out"
        )
    if len(args.text or ()) != 1:
        raise ValueError(f"a page shows 1 text, not {len(args.text or ())}; give one --text")
    out = Path(args.html)
    check_file(out, "a page of trace", lambda path: is_page(path, TITLE))
    names = [name for name in (args.model, args.teacher) if name]
    folders = list(map(resolve, names))
    first, *others = tokenizers = list(map(load_preprocessor, folders))
    if not all(same_preprocessing(other, first) for other in others):
        raise ValueError(
            f"{args.teacher} splits a text into other tokens than {args.model}; give models that "
            f"share a tokenizer"
        )
    models = [_traced(args, *found) for found in zip(names, folders, tokenizers, strict=True)]
    pairs, rule = layer_pairs(folders[0], models)
    files.write_bytes(out, page_bytes(models, first, pairs, rule))
    steps = len(models[0].quantities) + 1  # and the loss
    return Answer({"html": str(out), "steps": steps}, f"{counted(steps, 'step')}: {out}")


def _traced(args, name, folder, tokenizer):
    """The values and gradients of one model of a page."""
    texts, _ = given_batch(args, folder, args.text)
    model = load(folder, args.task)
    (whole,) = tokenizer.whole(texts)
    if len(whole.ids) > tokenizer.max_length:
        raise ValueError(
            f"the text has {len(whole.ids)} tokens and {name} reads {tokenizer.max_length}; give a "
            f"shorter one"
        )
    return traced(
        name, model, _without_types(model, program_of(model).example(model, folder, texts))
    )


def _without_types(model, batch):
    """The batch as the model reads it: without token types where it has none."""
    if not model.config.architecture.types:
        batch.pop("token_type_ids", None)
    return batch


def _everything(out, model, batch):
    named = trace(model, batch)
    files.write_tensors(out, named)
    rows = [row for row in _rows(named) if not row[0].startswith("parameter_gradient")]
    text = table(("name", "shape", "type"), rows)
    text += f"\n\nand {len(named) - len(rows)} parameter gradients, all in {out}"
    return Answer({"out": str(out), "tensors": _shapes(named)}, text)


def _inputs(out, model, batch):
    named = {f"input.{name}": x for name, x in inputs_of(model, batch).items()}
    about = about_model(model)
    files.write_tensors(out, named, about)
    weights = [(role, public, _times(model.params[public].shape))
               for role, public in program_of(model).roles(model).items()]  # fmt: skip
    text = table(("name", "shape", "type"), _rows(named))
    text += "\n\n" + table(("parameter", "its name in model.safetensors", "shape"), weights)
    text += f"\n\nthe batch and these names are in {out}"
    return Answer({"out": str(out), "tensors": _shapes(named), "metadata": about}, text)


def _rows(named):
    return [(name, _times(x.shape), str(x.dtype)) for name, x in named.items()]


def _shapes(named):
    return {name: list(x.shape) for name, x in named.items()}


def _times(shape):
    return "×".join(map(str, shape))
