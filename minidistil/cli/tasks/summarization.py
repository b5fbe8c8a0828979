"""Abstractive summarisation: a text becomes a short one; measured by ROUGE."""

from minidistil.cli import pairs
from minidistil.cli.pairs import answers
from minidistil.train.text_metrics import rouge

__all__ = ["answers"]


def add_options(parser):
    """Those of translation, which adds them."""


def training(args, folder, tokenizer, resumed):
    """An encoder–decoder, and TextPairs."""
    return pairs.training("summarization", args, folder, tokenizer)


def evaluation(args, tokenizer, model):
    """Batches of sources with what they should become."""
    return pairs.evaluation_batches(args, tokenizer)


def distillation(args, tokenizer, teacher, resumed):
    """TextPairs, their targets the data's or, with --sequence-level, the teacher's."""
    return pairs.distillation(args, tokenizer, teacher)


def measure(model, batches, reference=None):
    """loss (nats a target token), rouge1, rouge2, rougeL (0 to 100), agreement."""
    return pairs.measure(model, batches, rouge, reference)


def describe(answer):
    """The text itself."""
    return answer["summary_text"]
