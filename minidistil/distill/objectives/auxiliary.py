"""What terms see of a model, and what they send back."""

from typing import NamedTuple

from minidistil.model.context import plus


class ModelStates(NamedTuple):
    """One model on one batch."""

    hidden: tuple  # x₀ … x_L, each (N,C)
    taps: dict  # {"layer.0": {"q": (N,C), "k": …, "v": …}, …} of the layers that a term names
    rows: object
    architecture: object


class TermGradients(NamedTuple):
    """Gradients into the student: {layer: (N,C)}, {"layer.0": {"q": (N,C)}}, {name: learned}."""

    hidden: dict
    taps: dict
    params: dict


def tap(seen, layer, name):
    """q, k or v (N,C) of a layer, counted from 1."""
    return seen.taps[f"layer.{layer - 1}"][name]


def tapped(terms, student, teacher):
    """Layers whose queries, keys and values the terms look at: of the student, of the teacher."""
    both = set(), set()
    for term in terms:
        for mine, theirs in term.watched(student, teacher):
            both[0].add(mine)
            both[1].add(theirs)
    return both


def auxiliary_losses(terms, mine, theirs, params, ops):
    """Everything that the terms ask for  ->  {part: loss before its weight}, one TermGradients,
    weighted.

    params: what the terms learn, under `terms.0.…`, as `Projected` names it.
    """
    parts, all_hidden, all_taps, learned = {}, {}, {}, {}
    for number, term in enumerate(terms):
        prefix = f"terms.{number}."
        own = {n.removeprefix(prefix): p for n, p in params.items() if n.startswith(prefix)}
        loss, cache = term.forward(mine, theirs, own, ops)
        part = f"{term.name}.{number}"
        parts[part] = loss
        hidden, taps, grads = term.backward(mine.hidden[-1].dtype.type(term.weight), cache, ops)
        for i, dx in hidden.items():
            all_hidden[i] = plus(all_hidden.get(i), dx, ops)
        for layer, named in taps.items():
            inner = all_taps.setdefault(layer, {})
            for name, dx in named.items():
                inner[name] = plus(inner.get(name), dx, ops)
        learned |= {prefix + n: g for n, g in grads.items()}
    return parts, TermGradients(all_hidden, all_taps, learned)
