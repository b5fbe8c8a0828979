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

What pairs of sentences are trained on is in `sentence`, what an encoder–decoder writes in
`encoder_decoder`.
Source of the choices: the forward methods of Hugging Face's Bert and DistilBert classes. These let
the padding take part where an answer may start; here it does not.
"""

import numpy as np

from minidistil.arguments import real
from minidistil.model.answers import questions, questions_backward
from minidistil.model.heads import ORDERS, WORDS, heads_of, logits_head
from minidistil.model.network import Cotangents

IGNORED = -100
LABELS = ("labels", "next_sentence_label", "sentence_order_label", "start_positions",
          "end_positions")  # fmt: skip


def given(batch):
    """The labels of a batch, {one of LABELS: array}."""
    return {name: batch[name] for name in LABELS if batch.get(name) is not None}


def loss_of(result, rows, given, config, task, ops):
    """network.Result of all rows, {one of LABELS: array}  ->  float, Cotangents.

    Raises ValueError for labels that the task does not have, lack or do not fit.
    """
    total, d, head = 0.0, Cotangents((None,) * len(result.hidden)), logits_head(config, task)
    if head is None:  # next sentence alone: its labels go by either name
        given = {"next_sentence_label": given.pop("labels", None)} | given
    nsp = given.pop("next_sentence_label", None)
    nsp = given.pop("sentence_order_label", nsp)  # ALBERT's
    if head and given:
        loss, dlogits = answer_loss(result.logits, rows, given, config, head, ops)
        total, d = total + loss, d._replace(logits=dlogits)
    if nsp is not None:
        if not set(ORDERS) & set(heads_of(config, task)):
            raise ValueError(f"task {task!r} has no head for these labels")
        if (K := result.nsp.shape[1]) != 2:
            raise ValueError(
                f"two texts are in order or not: this loss needs num_labels 2, not {K}; load the "
                f"model with num_labels=2"
            )
        loss, dnsp = classification(result.nsp, nsp, config.with_labels(2), ops)
        total, d = total + ops.place.number(loss), d._replace(nsp=dnsp)
    return total, d


def answer_loss(logits, rows, given, config, head, ops, weight=1):
    """A head's logits, {name: labels}  ->  float, dlogits of weight times it: the mean of its
    questions' losses. Raises ValueError for labels that do not fit."""
    if head in ("classifier", "out_proj"):
        _only(given, "labels")
        loss, dlogits = classification(logits, given["labels"], config, ops, weight)
        return ops.place.number(loss), dlogits
    asked, d, total = questions(logits, rows, head, ops.place), [], 0.0
    for z, labels in zip(asked, right_answers(given, rows, config, head), strict=True):
        loss, dz = tokens(z, labels, ops, weight / len(asked))
        total += ops.place.number(loss) / len(asked)
        d.append(dz)
    return total, questions_backward(d, rows, head, ops.place)


def right_answers(given, rows, config, head):
    """{name: labels}  ->  for each question of the head, integer labels, IGNORED where none."""
    if head == "spans":
        _only(given, "start_positions", "end_positions")
        return tuple(_positions(name, given[name], rows) for name in sorted(given, reverse=True))
    _only(given, "labels")
    if head == "choice":
        B = len(rows.mask) // rows.choices
        return (_classes(np.asarray(given["labels"]), B, rows.choices, "choices"),)
    words = head in WORDS
    K, what = (config.vocab_size, "vocabulary") if words else (config.num_labels, "labels")
    labels = check_token_labels(given["labels"], rows, K, what)
    return (next_words(labels, rows) if head == "lm" else labels,)


def next_words(labels, rows):
    """labels (N,) of the tokens themselves  ->  (N,) of the tokens in the next columns.

    A label behind a gap has nobody that predicts it. Raises ValueError where none is left.
    """
    batch = rows.scatter(labels - IGNORED)  # 0 where there is none
    batch = np.pad(batch[:, 1:], ((0, 0), (0, 1))) + IGNORED
    shifted = rows.gather(batch)
    if (shifted == IGNORED).all():
        raise ValueError("no label has a token before it to predict it; give longer texts")
    return shifted


def _only(given, *names):
    if set(given) != set(names):
        raise ValueError(f"the task's labels are {' and '.join(names)}, not {', '.join(given)}")


def _positions(name, positions, rows):
    """Columns (B,) or (B,1)  ->  (B,): those from T on are IGNORED, negative ones are column 0."""
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
    if not len(inside):
        raise ValueError(f"all {name} lie beyond the {T} columns: there is no answer to learn")
    return np.where(positions < T, positions, IGNORED)


def check_token_labels(labels, rows, V, what="vocabulary"):
    """labels (B,T)  ->  (N,) for the rows.

    Raises ValueError: another shape, a label on padding, a label outside the vocabulary, no label.
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
    if (kept == IGNORED).all():
        raise ValueError(f"all {kept.size} labels are {IGNORED}: the mean over them does not exist")
    return kept.astype(np.int64)


def problem_type(config, labels):
    """The configured one, or, as Hugging Face infers it, what the labels look like."""
    if config.problem_type:
        return config.problem_type
    if config.num_labels == 1:
        return "regression"
    whole = np.asarray(labels).dtype.kind in "iu"
    return "single_label_classification" if whole else "multi_label_classification"


def classification(logits, labels, config, ops, weight=1):
    """logits (B,K), labels  ->  loss, dlogits (B,K) of weight times it.

    labels: (B,) integers; (B,K) 0/1 for multi-label; (B,) or (B,K) numbers for regression.
    Raises ValueError for another shape or a class outside K.
    """
    kind, labels = problem_type(config, labels), np.asarray(labels)
    B, K = logits.shape
    if kind == "single_label_classification":
        return tokens(logits, _classes(labels, B, K, "classes"), ops, weight)
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


def tokens(logits, labels, ops, weight=1):
    """logits (M,V), labels (M,)  ->  loss, dlogits (M,V) of weight times it."""
    loss, cache = ops.cross_entropy.forward(logits, labels=labels)
    return loss, ops.cross_entropy.backward(logits.dtype.type(weight), cache)[0]
