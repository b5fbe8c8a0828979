"""Command hooks of translation, measured by BLEU."""

from functools import partial

from minidistil.tasks.text_metrics import bleu
from minidistil.tasks.text_to_text import pair_commands
from minidistil.tasks.text_to_text.pair_commands import (
    add_pair_options,
    answers,
    distillation,
    evaluation,
)

__all__ = [
    "add_options",
    "answers",
    "describe",
    "distillation",
    "evaluation",
    "measure",
    "training",
]

add_options = add_pair_options
training = partial(pair_commands.training, "translation")
measure = partial(pair_commands.measure, bleu)


def describe(answer) -> str:
    """The translation."""
    return answer["translation_text"]
