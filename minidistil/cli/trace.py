"""Write every intermediate value and gradient of a model on a text, to compare with an
implementation in another language.

The file holds input.*, value.*, gradient.* (of the loss with respect to each value) and
parameter_gradient.* in float32, and the loss: the mean cross-entropy of all tokens with themselves
as labels; for a classifier of texts, tokens or choices, of its first class; for question answering,
of an answer that starts and ends at the first token; for a body, half the sum of squares of its
last hidden states.
Arrays are (B,T,·), with zeros at the padding.
"""

from pathlib import Path

from safetensors import SafetensorError, safe_open

from minidistil.check.reference_batch import example, load
from minidistil.check.trace_values import trace
from minidistil.cli.command_parser import add_model
from minidistil.io import files
from minidistil.io.console import Answer, table
from minidistil.io.outputs import check_file
from minidistil.model.pretrained import resolve

KINDS = ("input", "value", "gradient", "parameter_gradient", "loss")
EXAMPLE = 'weights --text "The movie was great." --out trace.safetensors'


def add_options(parser):
    add_model(parser, "or a name on the hub", required=True)
    parser.add_argument("--text", nargs="+", metavar="TEXT", help="default: random words")
    parser.add_argument("--task", help="default: what the model's config says")
    parser.add_argument("--seed", type=int, default=0, help="of the random words")
    parser.add_argument("--out", default="trace.safetensors", metavar="FILE")


def _is_trace(path):
    """Whether every tensor of a file has a name that a trace gives."""
    try:
        with safe_open(path, "np") as found:
            return all(name.partition(".")[0] in KINDS for name in found.keys())  # noqa: SIM118
    except SafetensorError:
        return False


def run(args):
    folder, out = resolve(args.model), Path(args.out)
    if not out.parent.is_dir():
        raise ValueError(f"--out: {out.parent} is not a folder")
    check_file(out, "a trace", _is_trace)
    model = load(folder, args.task)
    batch = example(model, folder, args.text, args.seed)
    kept = ("input_ids", "attention_mask", "token_type_ids")
    if not model.config.architecture.types:
        kept = kept[:2]
    named = trace(model, {name: batch[name] for name in kept if name in batch})
    files.write_tensors(out, named)
    shapes = {name: list(x.shape) for name, x in named.items()}
    rows = [(name, "×".join(map(str, shape)), str(named[name].dtype))
            for name, shape in shapes.items()
            if not name.startswith("parameter_gradient")]  # fmt: skip
    count = len(shapes) - len(rows)
    text = table(("name", "shape", "type"), rows)
    text += f"\n\nand {count} parameter gradients, all in {out}"
    return Answer({"out": str(out), "tensors": shapes}, text)
