"""What the commands do differently for each task: one module a task, found by the task's name.

`finetune`, `evaluate`, `distill` and `quantize` read the same story for every task: data, model,
loop, measures. What differs stands in `minidistil/cli/tasks/TASK.py`, which has

    add_options(parser)                                  options that this task alone has
    training(args, folder, tokenizer, resumed)           model, data: what finetune trains, on what
    evaluation(args, tokenizer, model)                   batches: all that --data holds, or
                                                         the --held-out part of it
    distillation(args, tokenizer, teacher, resumed)      data: what a student learns on
    measure(model, batches, reference=None)              {metric: number}; reference: what `answers`
                                                         gave for another model, for "agreement"
    answers(model, batches)                              what the model says, in one array
    describe(answer)                                     one answer of its pipeline in one line

and, where models write,

    samples(models, tokenizer, batches)                  {name: text} that a report shows

where a model may begin from nothing,

    start(args)                                          what training gets for folder and tokenizer

and, where there are simple answers to compare with,

    beside(batches)                                      {metric: number} that evaluate adds

`data` is what `minidistil.train.run_loop` reads, with `evaluation_batches()`. A module is imported
only when its task is asked for, or its options.
"""

import importlib

TASKS = ("fill-mask", "text-classification", "token-classification", "question-answering",
         "multiple-choice", "text-generation", "translation", "summarization",
         "sentence-embedding", "extractive-summarization", "image-classification")  # fmt: skip


def of(task):
    """The module of a task. Raises ValueError for one that the commands cannot train."""
    if task not in TASKS:
        raise ValueError(
            f"what is trained or measured must be one of {', '.join(TASKS)}, not {task!r}; "
            f"give --task"
        )
    return importlib.import_module(f"minidistil.tasks.{task.replace('-', '_')}.command")


def add_options(parser):
    """The options of every task, a group for each, and of long texts."""
    add_stride(parser.add_argument_group("texts longer than --max-length"))
    for task in TASKS:
        of(task).add_options(parser)


def add_stride(parser):
    parser.add_argument(
        "--stride", type=int, metavar="N",
        help="pieces that their windows share where texts or their words are classified, or "
        "questions answered (128, at most a third of --max-length)",
    )  # fmt: skip
