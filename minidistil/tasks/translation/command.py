"""Translation: a sentence becomes one of another language; measured by BLEU."""

from minidistil.tasks.text_metrics import bleu
from minidistil.tasks.text_to_text import pair_commands
from minidistil.tasks.text_to_text.pair_commands import add_pair_options, answers

__all__ = ["answers"]


def add_options(parser):
    add_pair_options(parser)


def training(args, folder, tokenizer, resumed):
    """An encoder–decoder, and TextPairs."""
    return pair_commands.training("translation", args, folder, tokenizer)


def evaluation(args, tokenizer, model):
    """Batches of sources with what they should become."""
    return pair_commands.evaluation_batches(args, tokenizer)


def distillation(args, tokenizer, teacher, resumed):
    """TextPairs, their targets the data's or, with --sequence-level, the teacher's."""
    return pair_commands.distillation(args, tokenizer, teacher)


def measure(model, batches, reference=None):
    """loss (nats a target token), bleu (0 to 100), agreement."""
    return pair_commands.measure(model, batches, bleu, reference)


def describe(answer):
    """The text itself."""
    return answer["translation_text"]
