"""Masked language modelling: the words behind the masks of held-out text."""

import tempfile

import numpy as np

from minidistil.model.pretrained import from_pretrained
from minidistil.model.task_loss import IGNORED
from minidistil.tasks.measuring import accuracy, cross_entropy, likeliest, measured, results
from minidistil.tasks.text_data import add_masking_options, masked_text, refuse_eval_data


def add_options(parser):
    add_masking_options(parser)


def training(args, folder, tokenizer, resumed):
    """The model, and MaskedText whose last documents are held out."""
    model = from_pretrained(
        folder, task="fill-mask", backend=args.backend, dtype="float32", seed=args.seed
    )
    refuse_eval_data(args)
    return model, masked_text(args, tokenizer, args.out, resumed)


def evaluation(args, tokenizer, model):
    """Batches with masks that are the same in every run."""
    with tempfile.TemporaryDirectory() as scratch:
        return masked_text(args, tokenizer, scratch).evaluation_batches()


def distillation(args, tokenizer, teacher, resumed):
    """MaskedText: the teacher is asked about the same masks."""
    refuse_eval_data(args)
    return masked_text(args, tokenizer, args.out, resumed)


def measure(model, batches, reference=None):
    """loss (nats a masked token), accuracy (the right word is the likeliest), agreement."""
    return measured(
        model, _guesses(model, batches), cross_entropy(model), likeliest(model), accuracy, reference
    )


def answers(model, batches):
    """The likeliest word at every masked token, (M,)."""
    words = likeliest(model)
    return np.concatenate([words(logits) for logits, _ in _guesses(model, batches)])


def describe(answer):
    """A text with one mask, or with several, between bars."""
    if isinstance(answer[0], dict):
        return ", ".join(f"{a['token_str']} {a['score']:.4f}" for a in answer)
    return " | ".join(describe(words) for words in answer)


def _guesses(model, batches):
    """Each batch's logits (M,V) and labels (M,) at its masked tokens, no others being computed."""

    def masked(rows, batch):
        return np.flatnonzero(rows.gather(batch["labels"]) != IGNORED)

    for batch, rows, result in results(model, batches, masked):
        yield result.logits, rows.gather(batch["labels"])[masked(rows, batch)]
