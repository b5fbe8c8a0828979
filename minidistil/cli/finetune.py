"""Train a model further on the data of a task: --task says which, and what its data looks like.

A model without the task's head gets a new one, with as many classes as the data has labels; images
need no model to start from. Writes a run folder: the model as a Hugging Face folder, metrics.jsonl,
report.json, report.html, and checkpoints from which --resume continues.
"""

from functools import partial

from minidistil import tasks
from minidistil.cli import INTERRUPTED, report
from minidistil.cli.chosen_rate import with_rate
from minidistil.cli.command_parser import add_model
from minidistil.cli.options import (
    add_run_options,
    add_store_option,
    add_training_options,
    train_config,
)
from minidistil.cli.run_options import keep_options, nothing_left, open_run, summarised
from minidistil.cli.task_options import add_class_options, settled_config
from minidistil.data.preprocessor import check_preprocessor, load_preprocessor
from minidistil.io.console import Answer
from minidistil.io.ranks import world
from minidistil.model.bundled_teacher import default_teacher
from minidistil.model.pretrained import resolve
from minidistil.model.sentence.sentence_model import SENTENCES, Pooling
from minidistil.tasks.data_options import add_eval_option, add_text_options, settle_length
from minidistil.tasks.measuring import measure
from minidistil.train.loop import run_loop
from minidistil.train.training_objectives import Supervised, counting_of

EXAMPLE = "--task text-classification --data movie-reviews --steps 200 --out runs/sentiment"


def add_options(parser):
    add_model(parser)
    parser.add_argument("--task", default="text-classification", help=", ".join(tasks.TRAINED))
    add_text_options(parser)
    tasks.add_options(parser)
    add_eval_option(parser)
    add_store_option(parser)
    add_training_options(parser, lr=2e-4, batch_tokens=4096)
    add_class_options(parser)
    add_run_options(parser)


def run(args):
    config = train_config(args, epochs=1)
    run = open_run(args, "finetune")
    with nothing_left(args.out):
        task = tasks.command_of(args.task)
        folder, reader = getattr(task, "start", _start)(args)
        own = Pooling.read(folder).max_length if args.task == SENTENCES else None
        settle_length(args, reader.max_length, args.task, own)
        keep_options(run, args)
        model, data = task.training(args, folder, reader, run.resumed)
        batches = data.evaluation_batches()
        check_preprocessor(reader, model.config)
        config = settled_config(config, args, model, data)
        evaluate = partial(measure, batches=batches)
        objective = Supervised(model, counting_of(config))
        config = with_rate(config, args, run, objective, data, evaluate)
        summary = run_loop(
            objective, data, config, run=run, resume=run.resumed, evaluate=evaluate
        )  # fmt: skip
        if summary["interrupted"]:
            return Answer(summary, "", INTERRUPTED)
        if world().rank:  # rank 0 alone writes
            return Answer(summary, "")
        model.save_pretrained(args.out, args.store)
        reader.save(args.out)
    found = summary | {"task": model.task, "out": str(args.out)}
    run.report(found)
    report.write(args.out)
    return Answer(found, summarised(found))


def _start(args):
    folder = resolve(args.model or default_teacher())
    return folder, load_preprocessor(folder)
