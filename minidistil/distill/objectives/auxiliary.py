"""Auxiliary losses of one batch: what they read of both models, their sum and its gradients."""

from typing import NamedTuple

from minidistil.model.context import plus
from minidistil.model.network import Cotangents


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

    def plus_hidden(self, d: Cotangents, ops) -> Cotangents:
        """d with the terms' gradients of the hidden states added."""
        every = (plus(dx, self.hidden.get(i), ops) for i, dx in enumerate(d.hidden))
        return d._replace(hidden=tuple(every))


class TappedLayers(NamedTuple):
    """Layers, from 1, whose queries, keys and values the terms read."""

    student: set
    teacher: set


def tap(states: ModelStates, layer: int, name: str):
    """q, k or v (N,C) of a layer, counted from 1."""
    return states.taps[f"layer.{layer - 1}"][name]


def empty_taps(layers) -> dict | None:
    """Layers, from 1  ->  a dict for each, to be filled by `network.forward`; None without any."""
    return {f"layer.{i - 1}": {} for i in layers} or None


def tapped_layers(terms: tuple, student, teacher, own_words: bool) -> TappedLayers:
    """The layers to tap in both models. own_words: each model has the batch in its own tokens.

    Raises ValueError where a term cannot compare the two, or where the student does not hold what
    the term learns.
    """
    layers = TappedLayers(set(), set())
    s, t = student.config.architecture, teacher.config.architecture
    for number, term in enumerate(terms):
        if own_words and term.by_token:
            raise ValueError(
                f"the term {term.name} compares token by token, and student and teacher read a "
                f"text in words of their own; leave it out"
            )
        held = learned_by(student)
        missing = [n for n in term.shapes(s, t) if f"terms.{number}.{n}" not in held]
        if missing:
            raise ValueError(
                f"the term {term.name} learns {missing[0]}: give distill_step "
                f"Projected(student, teacher, config.terms), which holds it"
            )
        for i, j in term.watched(s, t):
            layers.student.add(i)
            layers.teacher.add(j)
    return layers


def learned_by(student) -> dict:
    """The parameters of the terms, {} of a student without `Projected`."""
    return getattr(student, "learned", {})


def auxiliary_losses(
    terms: tuple, student: ModelStates, teacher: ModelStates, params: dict, ops
) -> tuple[dict, TermGradients]:
    """States of both models  ->  {part: loss before its weight}, weighted TermGradients, summed.

    params: what the terms learn, under `terms.0.…`, as `Projected` names it.
    """
    parts, all_hidden, all_taps, learned = {}, {}, {}, {}
    for number, term in enumerate(terms):
        prefix = f"terms.{number}."
        own = {n.removeprefix(prefix): p for n, p in params.items() if n.startswith(prefix)}
        loss, cache = term.forward(student, teacher, own, ops)
        parts[part_of(number, term)] = loss
        weight = student.hidden[-1].dtype.type(term.weight)
        hidden, taps, grads = term.backward(weight, cache, ops)
        for i, dx in hidden.items():
            all_hidden[i] = plus(all_hidden.get(i), dx, ops)
        for layer, named in taps.items():
            inner = all_taps.setdefault(layer, {})
            for name, dx in named.items():
                inner[name] = plus(inner.get(name), dx, ops)
        learned |= {prefix + n: g for n, g in grads.items()}
    return parts, TermGradients(all_hidden, all_taps, learned)


def plus_terms(loss: float, parts: dict, terms: tuple) -> float:
    """loss + Σ weight·part of the terms."""
    for number, term in enumerate(terms):
        loss += term.weight * parts[part_of(number, term)]
    return loss


def part_of(number: int, term) -> str:
    """The name of a term's loss among a step's parts."""
    return f"{term.name}.{number}"
