"""Command hooks of masked language modelling, measured on the masked words of held-out text."""

import tempfile

import numpy as np

from minidistil.data.masking import STRATEGIES
from minidistil.io.ranks import world
from minidistil.model.pretrained import from_pretrained
from minidistil.model.task_loss import IGNORED
from minidistil.tasks.data_options import refuse_eval_data
from minidistil.tasks.fill_mask.data import masked_text
from minidistil.tasks.fill_mask.guessed_words import guesses
from minidistil.tasks.measuring import accuracy, answered, argmax, cross_entropy, measured, results

__all__ = [
    "add_options",
    "answers",
    "describe",
    "distillation",
    "evaluation",
    "guesses",
    "measure",
    "training",
]


def add_options(parser) -> None:
    group = parser.add_argument_group("masked text (fill-mask)")
    group.add_argument(
        "--paragraphs", action="store_true", help=".txt: blank lines separate the documents"
    )
    group.add_argument(
        "--masking", default="uniform", help=f"in training: {' or '.join(STRATEGIES)} (uniform)"
    )
    group.add_argument(
        "--eval-tokens", type=int, default=65_536, metavar="N",
        help="masked words are predicted in about N held-out tokens (65536); 0: in all of them",
    )  # fmt: skip


def training(args, folder, tokenizer, resumed) -> tuple:
    """The model, and MaskedText of which some documents are held out."""
    model = from_pretrained(
        folder, task="fill-mask", backend=args.backend, dtype=args.dtype, seed=args.seed
    )
    refuse_eval_data(args)
    return model, masked_text(args, tokenizer, args.out, resumed)


def evaluation(args, tokenizer, model) -> list[dict]:
    """Batches with masks that are the same in every run."""
    with tempfile.TemporaryDirectory() as scratch:
        return masked_text(args, tokenizer, scratch).evaluation_batches()


def distillation(args, tokenizer, teacher, resumed):
    """MaskedText; student and teacher read the same masked batches."""
    refuse_eval_data(args)
    return masked_text(args, tokenizer, args.out, resumed)


def measure(model, batches, reference=None) -> dict[str, float]:
    """loss (nats a masked token), accuracy (top-1), agreement."""
    return measured(
        model, _logits(model, batches), cross_entropy(model), argmax(model), accuracy, reference
    )


def answers(model, batches) -> np.ndarray:
    """The top-1 word at every masked token, (M,)."""
    return answered(argmax(model), _logits(model, batches))


def describe(answer) -> str:
    """The words of one mask; of several masks, separated by bars."""
    if isinstance(answer[0], dict):
        return ", ".join(f"{a['token_str']} {a['score']:.4f}" for a in answer)
    return " | ".join(describe(words) for words in answer)


def _logits(model, batches):
    """Logits (M,V) and labels (M,) of each of this rank's batches, at its masked tokens alone."""

    def masked(rows, batch):
        return np.flatnonzero(rows.gather(batch["labels"]) != IGNORED)

    for batch, rows, result in results(model, world().share(batches), masked):
        yield result.logits, rows.gather(batch["labels"])[masked(rows, batch)]
