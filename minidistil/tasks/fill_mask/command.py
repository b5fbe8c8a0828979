"""Command hooks of masked language modelling, measured on the masked words of held-out text."""

import tempfile

import numpy as np

from minidistil.data.masking import STRATEGIES
from minidistil.io.ranks import world
from minidistil.model.pretrained import from_pretrained
from minidistil.model.task_loss import IGNORED
from minidistil.tasks.data_options import refuse_eval_data
from minidistil.tasks.fill_mask.data import masked_text
from minidistil.tasks.measuring import accuracy, answered, argmax, cross_entropy, measured, results

GUESSES = 5  # held-out sequences whose guesses a report shows
AROUND = 8  # tokens on each side of a guessed word


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


def guesses(models, tokenizer, batches) -> list[dict]:
    """A masked word of each of the first held-out sequences, and what each model puts there:
    {"text", "right", **{name: guess}}."""
    found = []
    for batch in batches:
        rows = models["teacher"].pack_batch(batch)
        asked = np.flatnonzero(_asked(rows, batch, tokenizer))
        asked = asked[np.unique(rows.sequence[asked], return_index=True)[1]][: GUESSES - len(found)]
        if not len(asked):
            continue
        words = {}
        for name, model in models.items():
            result = model.infer(model.pack_batch(batch), asked)
            words[name] = [tokenizer.decode([i]) for i in argmax(model)(result.logits)]
        labels = rows.gather(batch["labels"])[asked]
        for n, (row, label) in enumerate(zip(asked, labels, strict=True)):
            found.append({
                "text": _around(row, rows, tokenizer), "right": tokenizer.decode([label]),
                **{name: some[n] for name, some in words.items()},
            })  # fmt: skip
        if len(found) == GUESSES:
            break
    return found


def _asked(rows, batch, tokenizer):
    """(N,) bool: the masked tokens that are words, not pieces of them or punctuation."""
    labels = rows.gather(batch["labels"])
    original = np.where(labels == IGNORED, rows.ids, labels)
    asked = (rows.ids == tokenizer.mask_id) & (labels != IGNORED)
    for row in np.flatnonzero(asked):
        word, following = (tokenizer.decode([i]) for i in (*original[row : row + 2], 0)[:2])
        asked[row] = word.isalpha() and not following.startswith("##")
    return asked


def _around(row, rows, tokenizer):
    """The text around a row, with a gap in its place."""
    first, end = rows.bounds[rows.sequence[row]], rows.bounds[rows.sequence[row] + 1]
    start, stop = max(first, row - AROUND), min(end, row + 1 + AROUND)
    left, right = (
        _readable(ids, tokenizer) for ids in (rows.ids[start:row], rows.ids[row + 1 : stop])
    )
    if left.startswith("##"):  # the rest of a word
        left = left.partition(" ")[2]
    parts = ["…" if start > first else "", left, "____", right, "…" if stop < end else ""]
    return " ".join(part for part in parts if part)


def _readable(ids, tokenizer):
    """Text of ids, with masks and without the ends of the sequence."""
    ends = (tokenizer.cls_id, tokenizer.sep_id)
    return tokenizer.decode([i for i in ids if i not in ends], skip_special_tokens=False)


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
