"""Train a model further: on labelled text as a classifier, or on text as a masked language model.

A model without a classifier gets a new one, with as many classes as the data has labels. Writes a
run folder: the model as a Hugging Face folder, metrics.jsonl, report.json, report.html, and
checkpoints from which --resume goes on.
"""

import warnings

from minidistil.cli import INTERRUPTED, report
from minidistil.cli.common import (
    Answer,
    add_run_options,
    add_store_option,
    add_training_options,
    nothing_left,
    open_run,
    summarised,
    train_config,
)
from minidistil.cli.labelled import (
    add_label_options,
    in_two,
    labelled_text,
    names_for,
    read_examples,
)
from minidistil.cli.measure import measure
from minidistil.cli.teacher import default_teacher
from minidistil.cli.text import LENGTH, add_text_options, masked_text
from minidistil.config import read_config
from minidistil.data import check_vocabulary, load_tokenizer
from minidistil.data.labelled import PROBLEMS, REGRESSION, SINGLE
from minidistil.model.checkpoint import CONFIG
from minidistil.model.pretrained import from_pretrained, resolve
from minidistil.train.loop import run_loop
from minidistil.train.objectives import Supervised

EXAMPLE = "--task text-classification --data movie-reviews --steps 200 --out runs/sentiment"


def add_options(parser):
    parser.add_argument("--model", metavar="FOLDER", help="or a name on the hub; default: weights/")
    parser.add_argument("--task", default="text-classification", help="or fill-mask")
    add_text_options(parser)
    add_label_options(parser)
    parser.add_argument("--eval-data", metavar="PATH", help="evaluate on this, hold nothing out")
    add_store_option(parser)
    add_training_options(parser, lr=2e-4, batch_tokens=4096)
    add_run_options(parser)


def run(args):
    config = train_config(args, epochs=1)
    run = open_run(args, "finetune")
    with nothing_left(args.out):
        folder = resolve(args.model or default_teacher())
        tokenizer = load_tokenizer(folder)
        args.max_length = args.max_length or min(LENGTH, tokenizer.max_length)
        if args.task == "fill-mask":
            model = from_pretrained(
                folder, task=args.task, backend=args.backend, dtype="float32", seed=args.seed
            )
            data, batches = _text(args, tokenizer, run.resumed)
        elif args.task == "text-classification":
            model, data = _classifier(args, folder, tokenizer)
            batches = data.evaluation_batches()
        else:
            raise ValueError(
                f"--task must be fill-mask or text-classification to be trained, not {args.task!r}"
            )
        check_vocabulary(tokenizer, model.config.vocab_size)
        summary = run_loop(
            Supervised(model), data, config, run=run, resume=run.resumed,
            evaluate=lambda model: measure(model, batches),
        )  # fmt: skip
        if summary["interrupted"]:
            return Answer(summary, "", INTERRUPTED)
        model.save_pretrained(args.out, args.store)
        tokenizer.save(args.out)
    found = summary | {"out": str(args.out)}
    run.report(found)
    report.write(args.out)
    return Answer(found, summarised(found))


def _text(args, tokenizer, resumed):
    """MaskedText to train on, batches to evaluate on."""
    if not args.eval_data:
        data = masked_text(args, tokenizer, args.out, resumed)
        return data, data.evaluation_batches()
    raise ValueError("--eval-data is for text-classification; hold out documents with --held-out")


def _classifier(args, folder, tokenizer):
    """The model with a head for the data's labels, and the data."""
    training = read_examples(args, args.data)
    if args.eval_data:
        evaluation = read_examples(args, args.eval_data)
    else:
        training, evaluation = in_two(training, args.held_out)
    before = read_config(folder / CONFIG)
    kind = args.problem_type or before.problem_type or SINGLE
    if kind not in PROBLEMS:
        raise ValueError(f"--problem-type must be one of {', '.join(PROBLEMS)}, not {kind!r}")
    labels = [label for *_, label in training + evaluation]
    names = names_for(labels, kind, before.id2label)
    K = 1 if kind == REGRESSION else len(names)
    with warnings.catch_warnings():
        if args.resume:  # said when the run began
            warnings.simplefilter("ignore")
        model = from_pretrained(
            folder, task="text-classification", num_labels=K, problem_type=kind,
            backend=args.backend, dtype="float32", seed=args.seed,
        )  # fmt: skip
    model.config = model.config.with_labels(K, kind, names)
    return model, labelled_text(args, tokenizer, model, training, evaluation)
