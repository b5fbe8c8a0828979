"""The page on which two models are compared: distributions, losses and gradients at each place.

The page computes, with z the logits, p = softmax(z/τ) and a weight α for each loss,

    KL(p_t ‖ p_s), KL(p_s ‖ p_t)    −ln softmax(z_s)[label]    1 − cos(h_s, h_t)

and their gradients with respect to z_s, as its sliders move. It holds the logits of some words. Of
all the others it holds, for every temperature of the slider, sums from which these values follow
exactly, so that a vocabulary of any size fits. With r the other words and q = softmax(z_r/τ) over
them alone:

    ln Σ_r e^(z_s/τ), ln Σ_r e^(z_t/τ)        their part of the two normalisers
    E_q_t[z_t − z_s], E_q_s[z_t − z_s]        their part of the two divergences
    min, max over r of p_s − p_t              the largest gradient steps of words that are not shown
    min, max over r of p_s·(ln p_s − ln p_t − KL(p_s ‖ p_t))
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from minidistil.cli.compare.compare_places import CAUSAL, CLASSES, MASKED, TAGS, Place
from minidistil.cli.html_page import interactive
from minidistil.distilbert import log_softmax
from minidistil.distill import DistillConfig
from minidistil.distill.mean_counts import LABEL_LOSS
from minidistil.io.console import progress
from minidistil.model.task_loss import IGNORED

TITLE = "Teacher and student, word by word"
NAME = "compare.html"  # in the folder of a run
SCRIPTS = ("losses.js", "compare.js")
FIRST, MOVED = 16, 6  # words with the largest logits, and with the largest gradients, of each model
DIGITS = 13  # of a logit or a sum, which JSON holds as text
MOVING = (0.5, 1.0, 2.0, 4.0, 10.0)  # temperatures whose largest gradients are of words to show
TEMPERATURES = (*(n / 10 for n in range(5, 50)), *(n / 2 for n in range(10, 21)))


class Start(NamedTuple):
    """Where the sliders stand at first."""

    tau: float = 2.0
    kl: float = 5.0
    label: float = 2.0
    cos: float = 1.0


def start_of(task: str, config: DistillConfig) -> Start:
    """The temperature and the weights of a run."""
    label = getattr(config, f"alpha_{LABEL_LOSS.get(task, 'hard')}")
    return Start(config.temperature, config.alpha_ce, label, config.alpha_cos)


READS = {
    MASKED: "Both models read the text with [MASK] in its place.",
    CAUSAL: "Both models read what is before it, and no more.",
    TAGS: "Both models read the whole text.",
    CLASSES: "Both models read the whole text.",
}
READS_IN_TRAINING = READS | {
    MASKED: "Both models read the text as training masks it: at these words mostly [MASK], in two "
    "of ten cases another word or the word itself."
}


class Compared(NamedTuple):
    """What a page shows."""

    task: str
    teacher: str  # names of the models
    student: str
    pieces: Sequence[Sequence[str]]  # of each text
    places: Sequence[Place]
    name: Callable[[int], str]  # of a word or a class
    reads: str  # what the models read at a place


def page_bytes(found: Compared, start: Start) -> bytes:
    """The page as the bytes of one HTML file."""
    return interactive(TITLE, "compare", page_data(found, start), SCRIPTS)


def page_data(found: Compared, start: Start) -> dict[str, Any]:
    """The data of the page, for JSON."""
    taus = sorted({*TEMPERATURES, 1.0, start.tau})
    what = {MASKED: "hidden word", CAUSAL: "next word"}.get(found.task, "label")
    return {
        "teacher": found.teacher, "student": found.student, "label": what,
        "answers": "words" if found.task in (MASKED, CAUSAL) else "classes",
        "reads": found.reads, "taus": taus, "start": start._asdict(), "texts": found.pieces,
        "places": [_place(place, taus, found.name)
                   for place in progress(found.places, "summing", unit=" places")],
    }  # fmt: skip


def _place(place, taus, name):
    z_s, z_t = place.z_s, place.z_t
    chosen = _chosen(z_s, z_t, place.label)
    rest = np.ones(len(z_s), bool)
    rest[chosen] = False
    listed, others = (z_s[chosen], z_t[chosen]), (z_s[rest], z_t[rest])
    return {
        "text": place.text, "piece": place.piece, "words": [name(int(v)) for v in chosen],
        "label": -1 if place.label == IGNORED else int(np.flatnonzero(chosen == place.label)[0]),
        "zS": _rounded(z_s[chosen]), "zT": _rounded(z_t[chosen]),
        "cos": place.cos, "cosSlope": place.cos_slope,
        "others": int(rest.sum()), "highest": float(z_s[rest].max()) if rest.any() else None,
        "sums": [_rounded(_sums(listed, others, tau)) for tau in taus if rest.any()],
    }  # fmt: skip


def _rounded(values):
    return [float(f"{value:.{DIGITS}g}") for value in values]


def _chosen(z_s, z_t, label):
    """The words (M,) whose logits the page holds, those of the largest probability first."""
    found = {int(v) for z in (z_s, z_t) for v in _largest(z, FIRST)}
    found |= {label} - {IGNORED}
    for tau in MOVING:
        for d in _gradients(z_s, z_t, tau):
            found |= {int(v) for side in (d, -d) for v in _largest(side, MOVED)}
    found = np.array(sorted(found))
    probability = np.maximum(log_softmax(z_s), log_softmax(z_t))[found]
    return found[np.argsort(-probability, kind="stable")]


def _largest(x, count):
    count = min(count, len(x))
    return np.argpartition(x, -count)[-count:]


def _gradients(z_s, z_t, tau):
    """The gradients of both directions with respect to z_s, each divided by τ."""
    log_s, log_t = log_softmax(z_s / tau), log_softmax(z_t / tau)
    p_s = np.exp(log_s)
    ratio = log_s - log_t
    return p_s - np.exp(log_t), p_s * (ratio - (p_s * ratio).sum())


class _Softened(NamedTuple):
    """One model's probabilities at a temperature."""

    log_sum: float  # ln Σ e^(z/τ) over the words that are not shown
    q: np.ndarray  # of these words over them alone
    p: np.ndarray  # of these words over all
    log_p: np.ndarray
    log_listed: np.ndarray  # ln p of the words that are shown


def _softened(listed, others, tau):
    top = others.max()
    e = np.exp((others - top) / tau)
    total = e.sum()
    log_sum = top / tau + np.log(total)
    log_all = np.logaddexp.reduce([log_sum, *(listed / tau)])
    q = e / total
    log_p = others / tau - log_all
    return _Softened(log_sum, q, q * np.exp(log_sum - log_all), log_p, listed / tau - log_all)


def _sums(listed, others, tau):
    """The eight numbers of the words that are not shown; see above. listed, others: the logits of
    student and teacher, of the words that are shown and of these."""
    s, t = (_softened(*z, tau) for z in zip(listed, others, strict=True))
    gap, ratio = others[1] - others[0], s.log_p - t.log_p
    kl = (s.p * ratio).sum()
    kl += (np.exp(s.log_listed) * (s.log_listed - t.log_listed)).sum()
    forward, backward = s.p - t.p, s.p * (ratio - kl)
    return (
        s.log_sum, t.log_sum, (t.q * gap).sum(), (s.q * gap).sum(),
        forward.min(), forward.max(), backward.min(), backward.max(),
    )  # fmt: skip
