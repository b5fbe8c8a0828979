"""Store a model as int8: about a quarter of the size, loaded and used like any other.

Every matrix becomes integers with one scale for each row; vectors, and everything that is not a
matrix product, stay float32. With --data the model is measured before and after, and the share of
equal answers. --out is a Hugging Face folder with the tokenizer and a report.json.
"""

from pathlib import Path

from minidistil.cli.command_parser import add_model
from minidistil.cli.evaluate import add_measure_options, evaluation_batches
from minidistil.cli.options import add_model_options
from minidistil.io.console import Answer, table
from minidistil.io.files import copy, replacing, write_json
from minidistil.io.outputs import check_folder
from minidistil.model.bundled_teacher import default_teacher
from minidistil.model.pretrained import TOKENIZER, from_pretrained, resolve, task_in
from minidistil.model.vision.vision_encoder import IMAGES
from minidistil.tasks.measuring import answers, measure

EXAMPLE = "--model runs/distill --out runs/distill-int8 --data movie-reviews"


def add_options(parser):
    add_model(parser)
    parser.add_argument(
        "--out", metavar="DIR", required=True, help="a folder that is not there yet"
    )
    add_measure_options(parser)
    parser.set_defaults(data=None)
    add_model_options(parser)


def run(args):
    folder, out = resolve(args.model or default_teacher()), Path(args.out)
    check_folder(out)
    model = from_pretrained(
        folder, task=args.task or task_in(folder), backend=args.backend,
        problem_type=args.problem_type, seed=args.seed,
    )  # fmt: skip
    if model.task == IMAGES:
        raise ValueError(f"{folder} reads images; int8 is for the models of texts")
    if model.dtype == "int8":
        raise ValueError(f"{folder} is quantised already; give the model that it was made from")
    before = after = None
    if args.data is not None:
        batches = evaluation_batches(args, folder, model)
        before, right = measure(model, batches), answers(model, batches)
    with replacing(out) as aside:
        model.save_pretrained(aside, "int8")
        for name in TOKENIZER:
            if (folder / name).is_file():
                copy(folder / name, aside / name)
        small = from_pretrained(aside, task=model.task, backend=args.backend)
        if before is not None:
            after = measure(small, batches, right)
        found = {
            "model": str(folder), "out": str(out), "task": model.task,
            "parameters": sum(p.size for p in model.params.values()),
            "bytes": {"before": stored_bytes(folder), "after": stored_bytes(aside)},
            "before": before, "after": after,
        }  # fmt: skip
        write_json(aside / "report.json", found)
    return Answer(found, _text(found))


def stored_bytes(folder):
    """Bytes of a folder's tensors on disk."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def _text(found):
    before, after = found["before"] or {}, found["after"] or {}
    rows = [("bytes", *(f"{found['bytes'][when]:,}" for when in ("before", "after")))]
    rows.append(("bytes a parameter", *(f"{found['bytes'][when] / found['parameters']:.2f}"
                                        for when in ("before", "after"))))  # fmt: skip
    for name, value in after.items():
        rows.append((name, f"{before[name]:.4f}" if name in before else "", f"{value:.4f}"))
    lines = [table(("", "before", "int8"), rows), "", f"model and report: {found['out']}"]
    if not after:
        lines.append("nothing was measured: --data names text to measure on")
    return "\n".join(lines)
