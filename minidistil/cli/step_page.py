"""The page on which a text goes forward and backward through a model, step by step.

Every quantity of the model's program is a step with its value and its gradient, as `trace` computes
them in float64. A page has room for some of the numbers: `CUTS` lists how many tokens, channels and
heads, and the first entry that fits is taken. A map of numbers x is stored as int16 with one scale,
so that a number that the page shows differs from x by at most max|x|/65534.
"""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minidistil.check.families.decoder_program import DecoderProgram
from minidistil.check.families.family import program_of, trace_of
from minidistil.check.program import Program, stage_of
from minidistil.check.trace_values import values_and_gradients
from minidistil.cli.compare.compare_places import shown
from minidistil.cli.html_page import interactive
from minidistil.cli.step_table import Quantity, code_of, step_of
from minidistil.data.tokenizer import Tokenizer
from minidistil.io import files
from minidistil.io.counts import counted

TITLE = "Forward and backward, step by step"
SCRIPTS = ("maps.js", "steps.js")
NUMBERS = 1_200_000  # of all maps: 2 bytes each, 4/3 in base64, so 3.2 MB of a page of 5 MB
LEVELS = 32767  # of int16
RUN = "run.json"  # of a student's folder
BEST = 3  # words of each token whose logits are shown


class Cut(NamedTuple):
    """How much of a quantity a page shows."""

    tokens: int
    channels: int
    heads: int


CUTS = (Cut(48, 64, 16), Cut(32, 64, 12), Cut(32, 48, 6), Cut(24, 32, 4), Cut(16, 32, 2),
        Cut(16, 16, 1), Cut(8, 8, 1))  # fmt: skip


class Traced(NamedTuple):
    """A model's values and gradients of one text."""

    name: str
    model: Any
    program: Any
    named: Mapping[str, np.ndarray]  # value.*, gradient.*, loss

    @property
    def quantities(self) -> list[str]:
        """The names of what has a gradient, in the order of the forward."""
        gradients = [name for name in self.named if name.startswith("gradient.")]
        return [name.removeprefix("gradient.") for name in gradients]


def traced(name: str, model: Any, batch: Mapping[str, np.ndarray]) -> Traced:
    """Run a model on a batch of one text. Raises ValueError for a family without steps."""
    kind = program_of(model)
    if kind not in (Program, DecoderProgram) or "choice" in kind(model, batch).heads:
        raise ValueError(
            f"a page of steps is of an encoder or a GPT-2 that reads one text, not of a "
            f"{model.config.model_type} for {model.task}; leave --html out"
        )
    named = values_and_gradients(model, batch, "float64")
    return Traced(name, model, kind(model, batch), named)


def page_bytes(models: Sequence[Traced], tokenizer: Tokenizer, pairs: Sequence, rule: str) -> bytes:
    """The page of a model, or of a student and its teacher, as the bytes of one HTML file.

    pairs: (student's layer, teacher's layer), and the rule that pairs them, as a sentence.
    """
    return interactive(TITLE, "steps", page_data(models, tokenizer, pairs, rule), SCRIPTS)


def page_data(
    models: Sequence[Traced], tokenizer: Tokenizer, pairs: Sequence, rule: str
) -> dict[str, Any]:
    """The data of the page, for JSON."""
    first = models[0].program
    ids = first.ids[0]
    tokens = [shown(tokenizer, i) for i in ids]
    cut = next((cut for cut in CUTS if _numbers(models, cut) <= NUMBERS), CUTS[-1])
    steps = [_steps(one, cut, tokenizer) for one in models]
    ops = {step["op"] for some in steps for step in some}
    return {
        "models": [
            {"name": one.name, "family": one.model.config.model_type, "task": one.model.task,
             "layers": one.program.a.L, "loss": float(one.named["loss"][0]), "steps": some}
            for one, some in zip(models, steps, strict=True)
        ],
        "tokens": tokens[: cut.tokens], "about": _loss_in_words(models[0]), "pairs": list(pairs),
        "rule": rule, "cuts": _cuts_in_words(models, cut, len(ids)), "code": code_of(ops),
    }  # fmt: skip


def _steps(one, cut, tokenizer):
    found = []
    for name in one.quantities:
        value, gradient = (one.named[f"{kind}.{name}"][0] for kind in ("value", "gradient"))
        step = step_of(name, one.program)
        columns, labels = _columns(name, value, cut, one, tokenizer)
        found.append(_described(name, step, value) | {
            "value": _map(value, columns, cut), "gradient": _map(gradient, columns, cut),
            "columns": [int(c) for c in columns], "labels": labels,
        })  # fmt: skip
    last = Quantity("the loss", *_loss_op(one))
    loss = one.named["loss"]
    found.append(_described("loss", last, loss) | {
        "value": _map(loss, [0], cut), "gradient": _map(np.ones(1), [0], cut),
        "columns": [0], "labels": None,
    })  # fmt: skip
    return found


def _described(name, step, value):
    stage = stage_of(name)
    return {"name": name, "stage": stage, "what": step.what, "op": step.op, "reads": step.reads,
            "shape": list(value.shape)}  # fmt: skip


def _loss_op(one):
    """The op of the loss and the quantities that it reads."""
    names = one.quantities
    if not trace_of(one.model).labels(one.program):
        return "square", (names[-1],)
    return "cross_entropy", tuple(n for n in names if n.endswith("logits"))


# ------------------------------------------------------- maps of numbers


def _map(x, columns, cut):
    """(T,W), (H,T_q,T_k) or (W,)  ->  the numbers that the page shows, and what all of them are."""
    part = _part(x, columns, cut)
    top = float(np.abs(part).max()) or 1.0
    levels = np.rint(part / top * LEVELS).astype("<i2")
    return {
        "numbers": base64.b64encode(levels.tobytes()).decode(), "top": top,
        "shape": list(part.shape), "least": float(x.min()), "most": float(x.max()),
        "norm": float(np.linalg.norm(x)),
    }  # fmt: skip


def _part(x, columns, cut):
    """The rows and columns of a quantity that are shown, (heads or 1, rows, columns)."""
    T = cut.tokens
    if x.ndim == 3:
        return x[: cut.heads, :T, :T]
    return (x[:T] if x.ndim == 2 else x[None])[None][:, :, columns]


def _columns(name, value, cut, one, tokenizer):
    """The columns of a quantity that are shown, and their names where they have any."""
    width = value.shape[-1]
    if value.ndim == 3:
        return np.arange(min(cut.tokens, width)), None
    if width == one.model.config.num_labels and name == "logits" and _of_classes(one):
        kinds = one.model.config.id2label or [f"LABEL_{k}" for k in range(width)]
        return np.arange(width)[: cut.channels], [str(kind) for kind in kinds][: cut.channels]
    if name == "logits":
        best = np.argsort(-value[: cut.tokens], axis=1, kind="stable")[:, :BEST]
        words = list(dict.fromkeys([*one.program.ids[0][: cut.tokens], *best.T.ravel()]))
        words = np.array(words[: cut.channels])
        return words, [shown(tokenizer, v) for v in words]
    every = max(1, -(-width // cut.channels))
    return np.arange(0, width, every), None


def _of_classes(one):
    return not {"mlm", "lm"} & set(one.program.heads)


def _numbers(models, cut):
    """How many numbers all maps of a page have."""
    total = 0
    for one in models:
        for name in one.quantities:
            x = one.named[f"value.{name}"][0]
            T = min(cut.tokens, x.shape[-2] if x.ndim > 1 else 1)
            wide = min(cut.heads, len(x)) * T if x.ndim == 3 else min(cut.channels, x.shape[-1])
            total += 2 * T * wide
    return total


# ------------------------------------------------------- in words


def _cuts_in_words(models, cut, T):
    """What the page leaves out, a sentence each."""
    found = []
    if cut.tokens < T:
        found.append(f"the first {cut.tokens} of {counted(T, 'token')} are shown")
    widest = max(one.named[f"value.{name}"].shape[-1] for one in models for name in one.quantities
                 if name.rpartition(".")[2] not in ("logits", "scores", "probs"))  # fmt: skip
    if cut.channels < widest:
        found.append(f"of more than {cut.channels} channels, every second, third, … is shown, at "
                     f"most {cut.channels}; their numbers are exact, not means")  # fmt: skip
    if cut.heads < max(one.program.a.H for one in models):
        found.append(f"the first {counted(cut.heads, 'attention head')} are shown")
    if any(not _of_classes(one) for one in models):
        found.append(f"of the vocabulary, the logits of the text's own words and of the {BEST} "
                     f"largest at each token are shown, at most {cut.channels}")  # fmt: skip
    found.append("numbers are stored in 16 bits: each differs from the model's by at most the "
                 "largest number of its map divided by 65,534")  # fmt: skip
    return found


def _loss_in_words(one):
    heads = set(one.program.heads)
    if "mlm" in heads:
        return "the mean cross-entropy of all tokens with themselves as labels"
    if "lm" in heads:
        return "the mean cross-entropy of each token's successor"
    if "spans" in heads:
        return "the mean cross-entropy of an answer that starts and ends at the first token"
    if not trace_of(one.model).labels(one.program):
        return "half the sum of squares of the last hidden states"
    return "the cross-entropy of class 0"


def layer_pairs(student: Path, models: Sequence[Traced]) -> tuple[list, str]:
    """[(student's layer, teacher's layer)], and the rule as a sentence; none of one model alone.

    student: its folder. Raises ValueError for models of which one has pre-norm blocks.
    """
    if len(models) == 1:
        return [], ""
    ours, theirs = models
    if type(ours.program) is not type(theirs.program):
        raise ValueError(
            f"the steps of a {ours.model.config.model_type} and a {theirs.model.config.model_type} "
            f"are not the same; give two encoders, or two GPT-2s"
        )
    layers, of_teacher = ours.program.a.L, theirs.program.a.L
    if (student / RUN).is_file():
        given = files.read_json(student / RUN).get("options", {}).get("layers")
        if isinstance(given, list) and len(given) == layers and max(given) < of_teacher:
            return list(enumerate(given)), "Each layer stands beside the layer that it started as."
    ends = [max(0, round((i + 1) * of_teacher / layers) - 1) for i in range(layers)]
    return list(enumerate(ends)), "The layers are spread evenly over the teacher's."
