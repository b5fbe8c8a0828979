"""Prediction of a data-parallel run from the times of one step on one machine.

n nodes of c cores, one rank each, a micro-batches a step of a rank. Here, on c₀ cores, the
gradients of a micro-batch took g seconds, and clipping with the optimiser's step u. A node sends W
bytes a second, and a message takes λ seconds more:

    compute    a·g·c₀/c
    update     u·c₀/c
    timeₖ      2(n−1)/n·bₖ/W + 2(n−1)·λ        bucket k, of bₖ bytes, on a ring of n nodes
    step       compute + exposed + update

The network takes one bucket after another, each when the last backward has completed it:

    endₖ       max(endₖ₋₁, readyₖ) + timeₖ
    exposed    max(0, end of the last bucket − end of the backward)

`ready` is measured: the moments at which `minidistil.model.handing_over` gives the gradients. The
student's word embeddings come last, so at least their bucket is exposed.
"""

import math
from typing import NamedTuple


class MeasuredStep(NamedTuple):
    """One step on one machine."""

    cores: int
    tokens: int  # of a micro-batch
    gradients: float  # seconds of teacher, student and backward
    update: float  # seconds of clipping and AdamW
    ready: tuple  # (seconds after the beginning, bytes of gradients) of each bucket
    memory: int  # bytes of weights, moments, gradients and one micro-batch's activations
    parameters: int  # of the student that are trained


class Cluster(NamedTuple):
    """The machines of a plan."""

    nodes: int
    cores: int  # of a node
    bandwidth: float  # bytes a second that a node sends
    latency: float  # seconds of a message
    watts: float  # of a node under load


def ring(nbytes: float, cluster: Cluster) -> tuple[float, float]:
    """An all-reduce of so many bytes on a ring  ->  bytes that a node sends, seconds."""
    n = cluster.nodes
    sent = 2 * (n - 1) / n * nbytes
    return sent, sent / cluster.bandwidth + 2 * (n - 1) * cluster.latency


def predict(measured: MeasuredStep, cluster: Cluster, tokens: float, accumulate: int = 1) -> dict:
    """Numbers of a run over so many tokens: seconds of a step and its parts, steps, hours, bytes
    sent by a node a step and by all nodes in all, bytes of memory of a node, kilowatt-hours,
    efficiency (1: n nodes are n times as fast as one)."""
    scale, n = measured.cores / cluster.cores, cluster.nodes
    compute, update = accumulate * measured.gradients * scale, measured.update * scale
    before_last = (accumulate - 1) * measured.gradients * scale
    end = sent = busy = 0.0
    for ready, nbytes in measured.ready:
        volume, seconds = ring(nbytes, cluster)
        end = max(end, before_last + ready * scale) + seconds
        sent, busy = sent + volume, busy + seconds
    exposed = max(0.0, end - compute) if n > 1 else 0.0
    step = compute + exposed + update
    batch = n * accumulate * measured.tokens
    steps = max(1, math.ceil(tokens / batch))
    hours = steps * step / 3600
    return {
        "step_seconds": step, "compute_seconds": compute, "update_seconds": update,
        "network_seconds": busy, "exposed_seconds": exposed, "steps": steps, "hours": hours,
        "batch_tokens": batch, "tokens_per_second": batch / step,
        "sent_bytes_per_step": sent, "sent_bytes_in_all": sent * steps * n,
        "memory_bytes": measured.memory + 4 * measured.parameters * (n > 1),
        "kilowatt_hours": n * cluster.watts * hours / 1000,
        "efficiency": (compute + update) / step,
    }  # fmt: skip
