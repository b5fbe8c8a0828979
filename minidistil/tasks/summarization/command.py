"""Command hooks of abstractive summarization, measured by ROUGE."""

from functools import partial

from minidistil.tasks.text_metrics import rouge
from minidistil.tasks.text_to_text import pair_commands
from minidistil.tasks.text_to_text.pair_commands import answers, distillation, evaluation

__all__ = [
    "add_options",
    "answers",
    "describe",
    "distillation",
    "evaluation",
    "measure",
    "training",
]


def add_options(parser) -> None:
    """No options of its own; translation adds those of pairs of texts."""


training = partial(pair_commands.training, "summarization")
measure = partial(pair_commands.measure, rouge)


def describe(answer) -> str:
    """The summary."""
    return answer["summary_text"]
