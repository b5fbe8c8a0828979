"""Abstractive summarisation: a text becomes a short one; measured by ROUGE."""

from minidistil.tasks.text_metrics import rouge
from minidistil.tasks.text_to_text import pair_commands
from minidistil.tasks.text_to_text.pair_commands import answers

__all__ = ["answers"]


def add_options(parser):
    """Those of translation, which adds them."""


def training(args, folder, tokenizer, resumed):
    """An encoder–decoder, and TextPairs."""
    return pair_commands.training("summarization", args, folder, tokenizer)


def evaluation(args, tokenizer, model):
    """Batches of sources with what they should become."""
    return pair_commands.evaluation_batches(args, tokenizer)


def distillation(args, tokenizer, teacher, resumed):
    """TextPairs, their targets the data's or, with --sequence-level, the teacher's."""
    return pair_commands.distillation(args, tokenizer, teacher)


def measure(model, batches, reference=None):
    """loss (nats a target token), rouge1, rouge2, rougeL (0 to 100), agreement."""
    return pair_commands.measure(model, batches, rouge, reference)


def describe(answer):
    """The text itself."""
    return answer["summary_text"]
