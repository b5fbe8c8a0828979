"""Command hooks of multiple choice: JSON lines {"question", "choices", "label"}.

minidistil finetune --task multiple-choice --data train.jsonl --eval-data dev.jsonl
"""

import numpy as np

from minidistil.data.batches import Batching
from minidistil.io.ranks import world
from minidistil.model.task_outputs import questions
from minidistil.tasks.labelled_data import (
    WithoutLabels,
    held_out_of,
    relabelled,
    training_and_evaluation,
)
from minidistil.tasks.measuring import accuracy, answered, argmax, cross_entropy, measured, results
from minidistil.tasks.multiple_choice.data import Choices, choices_of


def add_options(parser) -> None:
    """No options: --data is a .jsonl file of questions with choices."""


def training(args, folder, tokenizer, resumed) -> tuple:
    """The model with a head that scores a choice, and Choices."""
    training, evaluation = training_and_evaluation(args, _read)
    model = relabelled(
        args, folder, "multiple-choice", lambda before: (before.num_labels, None, before.id2label)
    )
    return model, _data(args, tokenizer, training, evaluation)


def evaluation(args, tokenizer, model) -> list[dict]:
    """Batches of the questions with their labels."""
    return _data(args, tokenizer, [], held_out_of(args, _read)).evaluation_batches()


def distillation(args, tokenizer, teacher, resumed):
    """Choices; without labels, or with --no-labels, the teacher gives the only targets."""
    training, evaluation = training_and_evaluation(args, _read)
    labelled = any(example.label is not None for example in training + evaluation)
    data = _data(args, tokenizer, training, evaluation, labelled)
    return data if args.labels else WithoutLabels(data)


def _read(args, path):
    return choices_of(path, args.skip_unlabelled)


def _data(args, tokenizer, training, evaluation, labelled=True):
    return Choices(
        training, tokenizer, Batching(args.batch_tokens, args.seed), evaluation=evaluation,
        max_length=args.max_length, labelled=labelled,
    )  # fmt: skip


# ------------------------------------------------------- measuring


def measure(model, batches, reference=None) -> dict[str, float]:
    """loss, accuracy, agreement."""
    return measured(
        model, _logits(model, batches), cross_entropy(model), argmax(model), accuracy, reference
    )


def answers(model, batches) -> np.ndarray:
    """The top-1 choice of every question, (Q,)."""
    return answered(argmax(model), _logits(model, batches))


def describe(answer) -> str:
    """The choice with its score."""
    return f"{answer['answer']} {answer['score']:.4f}"


def _logits(model, batches):
    """This rank's batches' logits (B,choices) and labels (B,)."""
    for batch, rows, result in results(model, world().share(batches)):
        (logits,) = questions(result.logits, rows, "choice", model.ops.place)
        yield logits, batch.get("labels")
