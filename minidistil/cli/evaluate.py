"""Measure a model on its task: masked words, classes, answers, tags, summaries and others.

Of movie-reviews and digits it reads the part that training holds out, so that no example of the
training is measured; of other data everything, unless --held-out asks for a part.
"""

from minidistil import tasks
from minidistil.cli.command_parser import add_model
from minidistil.cli.options import add_inference_options
from minidistil.data.preprocessor import check_preprocessor, load_preprocessor
from minidistil.data.sources import MOVIE_REVIEWS
from minidistil.io.console import Answer
from minidistil.model.bundled_teacher import default_teacher
from minidistil.model.sentence.sentence_model import length_of
from minidistil.tasks.data_options import HELD_OUT, add_text_options, settle_length
from minidistil.tasks.image_classification.data import DIGITS
from minidistil.tasks.load_models import load
from minidistil.tasks.measuring import measure
from minidistil.tasks.text_classification.scope_command import add_options as add_scope_options
from minidistil.tasks.text_classification.scope_command import evaluate_scope

EXAMPLE = "--model runs/distill --data movie-reviews"


def add_options(parser):
    add_model(
        parser, "or a name on the hub; default: weights/; given again: the mean of their logits",
        several=True,
    )  # fmt: skip
    add_measure_options(parser)
    add_scope_options(parser)
    add_inference_options(parser)


def add_measure_options(parser):
    parser.add_argument("--task", help=f"{', '.join(tasks.TRAINED)}; default: the model's own")
    add_text_options(parser)
    parser.set_defaults(held_out=None)
    tasks.add_options(parser)
    parser.add_argument("--batch-tokens", type=int, default=4096, metavar="N")
    parser.add_argument("--seed", type=int, default=0, help="of a head that the folder lacks")


def run(args):
    model, tokenizer = load(
        args.model or default_teacher(), task=args.task, backend=args.backend, dtype=args.dtype,
        problem_type=args.problem_type, seed=args.seed,
    )  # fmt: skip
    if args.out_of_scope is not None:
        settle_length(args, tokenizer.max_length, model.task)
        return evaluate_scope(args, tokenizer, model)
    batches = batches_of(args, model, tokenizer)
    found = measure(model, batches)
    if baselines := getattr(tasks.command_of(model.task), "baselines", None):
        found |= baselines(batches)
    width = max(map(len, found)) + 2
    tokens = sum(int(batch["attention_mask"].sum()) for batch in batches)
    lines = [f"{name:{width}}{value:10.4f}" for name, value in found.items()]
    lines.append(f"{'tokens':{width}}{tokens:10,}")
    return Answer({**found, "tokens": tokens}, "\n".join(lines))


def evaluation_batches(args, folder, model):
    """`batches_of` for the folder's tokenizer."""
    reader = load_preprocessor(folder)
    check_preprocessor(reader, model.config)
    return batches_of(args, model, reader)


def batches_of(args, model, tokenizer):
    """--data, as the tokenizer reads it, in batches with the labels of the model's task.

    Raises ValueError for a task that cannot be measured.
    """
    settle_length(args, tokenizer.max_length, model.task, length_of(model))
    if args.held_out is None and args.data in (MOVIE_REVIEWS, DIGITS):
        args.held_out = HELD_OUT
    return tasks.command_of(model.task).evaluation(args, tokenizer, model)
