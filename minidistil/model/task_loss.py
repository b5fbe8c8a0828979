"""The loss that a task's labels define, and its gradient.

    fill-mask            cross entropy at the labelled tokens
    text-generation      the same, each label predicted by the token in the column before it
    text-classification  single label: cross entropy; multi-label: binary cross entropy;
                         regression: squared error (`problem_type` says which)
    token-classification cross entropy at the labelled tokens
    extractive-summarization  the same at the tokens that begin a sentence: in the summary or not
    question-answering   mean of two cross entropies over a text's tokens: start and end
    multiple-choice      cross entropy over the choices
    pretraining          masked LM + next sentence, or the order of two in ALBERT, summed
    image-classification as text-classification, see `vision_model`

The losses of sentence pairs are in `sentence_model`, that of an encoder–decoder in `seq2seq_model`.
Source: the forward methods of Hugging Face's Bert and DistilBert classes, which count padding among
the tokens where an answer may start; here it is not among them.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from minidistil.io.arguments import real
from minidistil.model.heads import SENTENCE_PAIR_HEADS, VOCABULARY_HEADS
from minidistil.model.label_counts import PLAIN, Counting
from minidistil.model.network import Cotangents, Result
from minidistil.model.rows import Rows
from minidistil.model.task_outputs import questions, questions_backward

Labels = Mapping[str, np.ndarray]  # of a batch, under the names in LABELS

IGNORED = -100
BY_TEXT = ("classifier", "out_proj")  # heads that classify a whole text
ORDER_LABELS = ("sentence_order_label", "next_sentence_label")  # ALBERT's, and BERT's
SPAN_LABELS = ("start_positions", "end_positions")
LABELS = ("labels", *ORDER_LABELS, *SPAN_LABELS)
SINGLE = "single_label_classification"


def given(batch: Mapping) -> Labels:
    """The labels of a batch."""
    return {name: batch[name] for name in LABELS if batch.get(name) is not None}


def label_counts(batch: Mapping, config, head: str, counting: Counting = PLAIN) -> dict:
    """A batch with labels  ->  {one of LABELS: the number of labels that its loss averages}."""
    every = given(batch).items()
    return {n: _count(n, np.asarray(x), batch, config, head, counting) for n, x in every}


def _count(name, labels, batch, config, head, counting):
    ids = np.asarray(batch.get("input_ids", ()))
    if name in SPAN_LABELS:
        return np.count_nonzero(labels < ids.shape[-1])
    if head in BY_TEXT and name == "labels" and problem_type(config, labels) != SINGLE:
        return len(labels)
    if head == "lm":  # the token in the column before it predicts a label
        mask = np.asarray(batch.get("attention_mask", np.ones_like(ids)), bool)
        labels = labels[:, 1:][mask[:, :-1]]
    labels = labels[labels != IGNORED]
    return counting.weight_of(labels) if name == "labels" else len(labels)


def check_counting(counting: Counting, model) -> None:
    """Raises ValueError for class weights or label smoothing that do not fit the model's labels."""
    if counting.is_plain():
        return
    config, head = model.config, model.logits_head
    kind = getattr(config, "problem_type", None)
    if head not in ("tokens", *BY_TEXT) or kind not in (None, SINGLE) or config.num_labels < 2:
        kind = f" ({kind})" if kind else ""
        raise ValueError(
            f"class weights and label smoothing are for labels that are one class of several, not "
            f"for {model.task}{kind}; leave them out"
        )
    K, weights = config.num_labels, counting.class_weights
    if weights is not None and len(weights) != K:
        raise ValueError(
            f"class weights must be {K}, one a class ({', '.join(config.id2label or ())}), not "
            f"{len(weights)}"
        )


def loss_of(result: Result, rows: Rows, labels: Labels, model: Any, counting: Counting = PLAIN):
    """The Result of all rows, labels  ->  float, Cotangents.

    Raises ValueError for labels that the task does not have, that are missing or do not fit.
    """
    total, d, head = 0.0, Cotangents((None,) * len(result.hidden)), model.logits_head
    # Without another head, "labels" are those of next sentence prediction.
    pair_names = ORDER_LABELS if head else (*ORDER_LABELS, "labels")
    order = next((name for name in pair_names if name in labels), None)
    answers = {name: x for name, x in labels.items() if name not in ORDER_LABELS}
    if head and any(counting.shares[name] for name in answers):
        loss, dlogits = answer_loss(result.logits, rows, answers, model, counting=counting)
        total, d = total + loss, d._replace(logits=dlogits)
    if order and counting.shares[order]:
        if not set(SENTENCE_PAIR_HEADS) & set(model.heads):
            raise ValueError(f"task {model.task!r} has no head for these labels")
        if (K := result.nsp.shape[1]) != 2:
            raise ValueError(
                f"two texts are in order or not: this loss needs num_labels 2, not {K}; load the "
                f"model with num_labels=2"
            )
        share, ops, config = counting.shares[order], model.ops, model.config.with_labels(2)
        loss, dnsp = classification(result.nsp, labels[order], config, ops, share)
        total, d = total + share * ops.place.number(loss), d._replace(nsp=dnsp)
    return total, d


def answer_loss(logits, rows: Rows, labels: Labels, model: Any, weight: float = 1,
                counting: Counting = PLAIN):  # fmt: skip
    """The logits of the model's head, labels  ->  float, dlogits of weight times it: the mean of
    the losses of the head's questions (`task_outputs`).

    Raises ValueError for labels that do not fit.
    """
    head, ops, shares = model.logits_head, model.ops, counting.shares
    if head in BY_TEXT:
        _only(labels, "labels")
        share = shares["labels"]
        loss, dlogits = classification(
            logits, labels["labels"], model.config, ops, weight * share, counting
        )
        return share * ops.place.number(loss), dlogits
    asked, d, total = questions(logits, rows, head, ops.place), [], 0.0
    targets = right_answers(labels, rows, model.config, head, empty=bool(shares))
    for z, name, target in zip(asked, sorted(labels, reverse=True), targets, strict=True):
        share = shares[name] / len(asked)
        if not share:
            d.append(ops.place.zeros_like(z))
            continue
        loss, dz = tokens(z, target, ops, weight * share, counting)
        total += share * ops.place.number(loss)
        d.append(dz)
    return total, questions_backward(d, rows, head, ops.place)


def right_answers(labels: Labels, rows: Rows, config, head: str, empty: bool = False) -> tuple:
    """The integer targets of each question of the head, IGNORED where there is none.

    empty: whether a question may have no target at all, as in a micro-batch.
    """
    if head == "spans":
        _only(labels, *SPAN_LABELS)
        names = sorted(labels, reverse=True)
        return tuple(_positions(name, labels[name], rows, empty) for name in names)
    _only(labels, "labels")
    if head == "choice":
        B = len(rows.mask) // rows.choices
        return (_classes(np.asarray(labels["labels"]), B, rows.choices, "choices"),)
    in_vocabulary = head in VOCABULARY_HEADS
    K, what = (config.vocab_size, "vocabulary") if in_vocabulary else (config.num_labels, "labels")
    targets = check_token_labels(labels["labels"], rows, K, what, empty)
    return (next_words(targets, rows, empty) if head == "lm" else targets,)


def next_words(labels: np.ndarray, rows: Rows, empty: bool = False) -> np.ndarray:
    """labels (N,) of the tokens themselves  ->  (N,) of the tokens in the next columns.

    A label whose preceding column is masked is dropped. Raises ValueError where none is left,
    unless `empty`.
    """
    batch = rows.scatter(labels - IGNORED)  # 0 at the padding, as IGNORED − IGNORED
    batch = np.pad(batch[:, 1:], ((0, 0), (0, 1))) + IGNORED
    shifted = rows.gather(batch)
    if not empty and (shifted == IGNORED).all():
        raise ValueError("no label has a token before it to predict it; give longer texts")
    return shifted


def _only(labels, *names):
    if set(labels) != set(names):
        raise ValueError(f"the task's labels are {' and '.join(names)}, not {', '.join(labels)}")


def _positions(name, positions, rows, empty):
    """Columns (B,) or (B,1)  ->  (B,): a column of T or more becomes IGNORED, a negative one 0."""
    B, T = rows.mask.shape
    positions = np.asarray(positions)
    if positions.size != B or positions.dtype.kind not in "iu":
        raise ValueError(f"{name} must be {B} integers, not {positions.dtype} {positions.shape}")
    positions = np.clip(positions.reshape(B).astype(np.int64), 0, T)
    inside = np.flatnonzero(positions < T)
    hidden = inside[~rows.mask[inside, positions[inside]]]
    if len(hidden):
        raise ValueError(
            f"{name}[{hidden[0]}] is column {positions[hidden[0]]}, which attention_mask hides; "
            f"give {T} or more where the answer is not in the text"
        )
    if not len(inside) and not empty:
        raise ValueError(f"all {name} lie beyond the {T} columns: there is no answer to learn")
    return np.where(positions < T, positions, IGNORED)


def check_token_labels(labels, rows: Rows, V: int, what: str = "vocabulary", empty: bool = False):
    """labels (B,T)  ->  (N,) for the rows.

    Raises ValueError: another shape, a label on padding, a label outside the vocabulary, no label
    (unless `empty`).
    """
    labels = np.asarray(labels)
    if labels.shape != rows.mask.shape or labels.dtype.kind not in "iu":
        raise ValueError(
            f"labels must be integers (B,T) = {rows.mask.shape}, not {labels.dtype} {labels.shape}"
        )
    stray = np.argwhere((labels != IGNORED) & ~rows.mask)
    if len(stray):
        b, t = stray[0]
        raise ValueError(f"label {labels[b, t]} at ({b},{t}) lies on padding; use {IGNORED} there")
    kept = rows.gather(labels)
    wrong = kept[(kept != IGNORED) & ((kept < 0) | (kept >= V))]
    if len(wrong):
        raise ValueError(f"label {wrong[0]} is outside the {what} of {V}")
    if not empty and (kept == IGNORED).all():
        raise ValueError(f"all {kept.size} labels are {IGNORED}: the mean over them does not exist")
    return kept.astype(np.int64)


def problem_type(config, labels: np.ndarray) -> str:
    """The config's problem_type, else the one that Hugging Face infers from labels and classes."""
    if config.problem_type:
        return config.problem_type
    if config.num_labels == 1:
        return "regression"
    whole = np.asarray(labels).dtype.kind in "iu"
    return SINGLE if whole else "multi_label_classification"


def classification(logits, labels, config, ops, weight: float = 1, counting: Counting = PLAIN):
    """logits (B,K), labels  ->  loss, dlogits (B,K) of weight times it.

    labels: (B,) integers; (B,K) 0/1 for multi-label; (B,) or (B,K) numbers for regression.
    Raises ValueError for another shape or a class outside K.
    """
    kind, labels = problem_type(config, labels), np.asarray(labels)
    B, K = logits.shape
    if kind == SINGLE:
        return tokens(logits, _classes(labels, B, K, "classes"), ops, weight, counting)
    if kind == "regression" and labels.size == B * K:
        labels = labels.reshape(B, K)
    if labels.shape != (B, K):
        raise ValueError(f"{kind} labels must be {(B, K)}, not {labels.shape}")
    labels = real("labels", labels)
    if not np.isfinite(labels).all():
        raise ValueError(f"{kind} labels must be finite numbers")
    if kind == "multi_label_classification" and not ((labels >= 0) & (labels <= 1)).all():
        raise ValueError(f"{kind} labels must be from 0 (no) to 1 (yes)")
    labels = ops.place.send(labels)
    if kind == "regression":
        loss, cache = ops.mse.forward(logits, target=labels)
        return loss, ops.mse.backward(logits.dtype.type(weight), cache)[0]
    loss, cache = ops.binary_cross_entropy.forward(logits, labels=labels)
    return loss, ops.binary_cross_entropy.backward(logits.dtype.type(weight), cache)[0]


def _classes(labels, B, K, what):
    if labels.shape != (B,) or labels.dtype.kind not in "iu":
        raise ValueError(f"labels must be {B} integers, not {labels.dtype} {labels.shape}")
    wrong = labels[(labels != IGNORED) & ((labels < 0) | (labels >= K))]
    if len(wrong):
        raise ValueError(f"label {wrong[0]} is outside the {K} {what}")
    return labels.astype(np.int64)


def tokens(logits, labels: np.ndarray, ops, weight: float = 1, counting: Counting = PLAIN):
    """logits (M,V), labels (M,)  ->  cross entropy, dlogits (M,V) of weight times it."""
    op, how = ops.cross_entropy, {}
    if not counting.is_plain():
        op, how = ops.weighted_cross_entropy, counting.options()
    loss, cache = op.forward(logits, labels=labels, **how)
    return loss, op.backward(logits.dtype.type(weight), cache)[0]
