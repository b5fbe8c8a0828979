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
"""

from pathlib import Path

from safetensors import SafetensorError, safe_open

from minidistil.check.families.family import program_of
from minidistil.check.reference_batch import load
from minidistil.check.trace_values import about_model, inputs_of, trace
from minidistil.cli.batch_options import add_batch, given_batch
from minidistil.cli.command_parser import add_model
from minidistil.io import files
from minidistil.io.console import Answer, table
from minidistil.io.outputs import check_file
from minidistil.model.pretrained import resolve

KINDS = ("input", "value", "gradient", "parameter_gradient", "loss")
EXAMPLE = 'weights --text "The movie was great." --out trace.safetensors'


def add_options(parser):
    add_model(parser, "or a name on the hub", required=True)
    add_batch(parser)
    parser.add_argument("--task", help="default: what the model's config says")
    parser.add_argument("--inputs-only", action="store_true", help="the batch, and no values")
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
    default = "inputs.safetensors" if args.inputs_only else "trace.safetensors"
    folder, out = resolve(args.model), Path(args.out or default)
    if not out.parent.is_dir():
        raise ValueError(f"--out: {out.parent} is not a folder")
    check_file(out, "a trace", _is_trace)
    model = load(folder, args.task)
    texts, batch = given_batch(args, folder, args.text)
    batch = batch or program_of(model).example(model, folder, texts, args.seed)
    if not model.config.architecture.types:
        batch.pop("token_type_ids", None)
    return _inputs(out, model, batch) if args.inputs_only else _everything(out, model, batch)


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
