"""The axis of each task's softmax, and the shape of its output.

A head computes logits by rows. A question is one distribution: one softmax over one axis.

    head                questions                      fields of Output
    mlm, lm, tokens     one a token, (N,K)             logits (B,T,K), zeros at the padding
    classifier          one a text, (B,K)              logits (B,K)
    choice              one for several sequences,     logits (B,choices)
                        (B,choices)
    spans               two a text, start and end,     start_logits, end_logits (B,T), the dtype's
                        (B,T) each                     minimum at the padding

An answer cannot start at the padding, so a question of `spans` holds −∞ there.
"""

from collections.abc import Mapping

import numpy as np

from minidistil.io.arguments import real
from minidistil.model.heads import VOCABULARY_HEADS
from minidistil.model.rows import Rows


def questions(logits, rows: Rows, head: str, place) -> tuple:
    """The head's logits  ->  a tuple of arrays (questions, alternatives), one or two of them."""
    if head == "spans":
        return tuple(place.send(_spread(x, rows)) for x in place.fetch(logits).T)
    if head == "choice":
        return (logits.reshape(-1, rows.choices),)
    return (logits,)


def questions_backward(d, rows: Rows, head: str, place):
    """Gradients of the questions, in order  ->  dlogits of the head."""
    if head == "spans":
        return place.send(np.stack([rows.gather(place.fetch(x)) for x in d], axis=1))
    if head == "choice":
        return d[0].reshape(-1, 1)
    return d[0]


def _spread(x, rows):
    """x (N,)  ->  (B,T), −∞ where there is no token."""
    out = np.full(rows.mask.shape, -np.inf, x.dtype)
    out[rows.mask] = x
    return out


def shown(logits, rows: Rows, head: str, place) -> dict[str, np.ndarray]:
    """The head's logits  ->  {field of Output: NumPy array}."""
    if logits is None:
        return {}
    asked = [place.fetch(x) for x in questions(logits, rows, head, place)]
    if head == "spans":
        least = np.finfo(asked[0].dtype).min
        return {name: np.maximum(x, least) for name, x in zip(FIELDS[head], asked, strict=True)}
    return {"logits": rows.scatter(asked[0]) if head in BY_TOKEN else asked[0]}


def shown_backward(given: Mapping, logits, rows: Rows, head: str, place, task: str):
    """{field: its cotangent or None}  ->  dlogits of the head, or None without any.

    Raises ValueError for a field that the task does not have, or a cotangent of another shape.
    """
    given = {name: dy for name, dy in given.items() if dy is not None}
    names = FIELDS.get(head, ("logits",)) if logits is not None else ()
    for name, dy in given.items():
        if name not in names:
            raise ValueError(f"d{name}: task {task!r} has no such output")
        if np.shape(dy) != _shape(logits, rows, head):
            raise ValueError(f"d{name} must be {_shape(logits, rows, head)}, not {np.shape(dy)}")
    if not given:
        return None
    nothing = np.zeros(_shape(logits, rows, head))
    d = [real(f"d{name}", given.get(name, nothing)) for name in names]
    d = [rows.gather(dy) for dy in d] if head in BY_TOKEN else d
    return questions_backward([place.send(dy) for dy in d], rows, head, place)


FIELDS = {"spans": ("start_logits", "end_logits")}
BY_TOKEN = (*VOCABULARY_HEADS, "tokens")


def _shape(logits, rows, head):
    """The shape of the head's fields of Output."""
    if head in BY_TOKEN:
        return (*rows.mask.shape, logits.shape[1])
    if head == "spans":
        return rows.mask.shape
    return (len(rows.mask) // rows.choices, rows.choices) if head == "choice" else logits.shape
