"""Translation: a sentence becomes one of another language; measured by BLEU."""

from minidistil.cli import pairs
from minidistil.cli.pairs import add_pair_options, answers
from minidistil.train.text_metrics import bleu

__all__ = ["answers"]


def add_options(parser):
    add_pair_options(parser)


def training(args, folder, tokenizer, resumed):
    """An encoder–decoder, and TextPairs."""
    return pairs.training("translation", args, folder, tokenizer)


def evaluation(args, tokenizer, model):
    """Batches of sources with what they should become."""
    return pairs.evaluation_batches(args, tokenizer)


def distillation(args, tokenizer, teacher, resumed):
    """TextPairs, their targets the data's or, with --sequence-level, the teacher's."""
    return pairs.distillation(args, tokenizer, teacher)


def measure(model, batches, reference=None):
    """loss (nats a target token), bleu (0 to 100), agreement."""
    return pairs.measure(model, batches, bleu, reference)


def describe(answer):
    """The text itself."""
    return answer["translation_text"]
