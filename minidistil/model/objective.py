"""The loss that a task's labels define, and its gradient.

    fill-mask            cross entropy at the labelled rows
    text-classification  single label: cross entropy; multi-label: binary cross entropy;
                         regression: squared error (`problem_type` says which)
    pretraining          masked LM + next sentence, summed
Source of the choices: the forward methods of Hugging Face's Bert and DistilBert classes.
"""

import numpy as np

IGNORED = -100


def check_token_labels(labels, rows, V):
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
        raise ValueError(f"label {wrong[0]} is outside the vocabulary of {V}")
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
        if labels.shape != (B,) or labels.dtype.kind not in "iu":
            raise ValueError(f"labels must be {B} integers, not {labels.dtype} {labels.shape}")
        wrong = labels[(labels != IGNORED) & ((labels < 0) | (labels >= K))]
        if len(wrong):
            raise ValueError(f"label {wrong[0]} is outside the {K} classes")
        loss, cache = ops.cross_entropy.forward(logits, labels=labels.astype(np.int64))
        return loss, ops.cross_entropy.backward(logits.dtype.type(weight), cache)[0]
    if kind == "regression" and labels.size == B * K:
        labels = labels.reshape(B, K)
    if labels.shape != (B, K):
        raise ValueError(f"{kind} labels must be {(B, K)}, not {labels.shape}")
    labels = ops.place.send(labels)
    if kind == "regression":
        loss, cache = ops.mse.forward(logits, target=labels)
        return loss, ops.mse.backward(logits.dtype.type(weight), cache)[0]
    loss, cache = ops.binary_cross_entropy.forward(logits, labels=labels)
    return loss, ops.binary_cross_entropy.backward(logits.dtype.type(weight), cache)[0]


def tokens(logits, labels, ops):
    """logits (M,V), labels (M,)  ->  loss, dlogits (M,V)."""
    loss, cache = ops.cross_entropy.forward(logits, labels=labels)
    return loss, ops.cross_entropy.backward(logits.dtype.type(1), cache)[0]
