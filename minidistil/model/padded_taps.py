"""Taps as the public API shows them: padded arrays, from a forward's rows and back to rows.

A tap's name is a layer and a part: "layer.0.q". Inside, `tapped` maps a layer's name to its parts,
{"layer.0": {"q": (N,C), …}}. Scores and weights (`taps.SQUARE`) are computed from q and k here.
"""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from minidistil.config.base import Architecture
from minidistil.io.arguments import real
from minidistil.model import taps
from minidistil.model.rows import Rows
from minidistil.ops import DTYPES

Tapped = dict[str, dict[str, Any]]  # {"layer.0": {"q": (N,C), …}, …}


def requested(names: Collection[str], attentions: bool, a: Architecture) -> Tapped | None:
    """An empty dict for each layer that the names tap; with attentions, for every layer. None
    without any. Raises ValueError for a name that is no tap."""
    taps.check_names(names, a.L)
    layers = {name.rpartition(".")[0] for name in names}
    if attentions:
        layers = {f"layer.{i}" for i in range(a.L)}
    return {layer: {} for layer in layers} or None


def padded(tapped: Tapped, name: str, rows: Rows, a: Architecture, place: Any) -> np.ndarray:
    """The tap of this name: (B,T,·), scores and weights (B,H,T,T)."""
    layer, _, part = name.rpartition(".")
    if part not in taps.SQUARE:
        return rows.scatter(place.fetch(tapped[layer][part]))
    q, k = (place.fetch(tapped[layer][name]) for name in "qk")
    return taps.scatter_squares(taps.squares(q, k, rows.bounds, a.H, part, a.causal), rows.mask)


def padded_backward(
    dtaps: Mapping[str, np.ndarray], rows: Rows, a: Architecture, ops: Any
) -> Tapped:
    """{"layer.0.q": (B,T,C), …}  ->  {"layer.0": {"q": (N,C)}, …}. Raises ValueError for a name
    that is no tap and for a gradient of the wrong shape."""
    tapped = {}
    taps.check_names(dtaps, a.L)
    B, T = rows.mask.shape
    for name, dy in dtaps.items():
        layer, _, part = name.rpartition(".")
        square = part in taps.SQUARE
        shape = (B, a.H, T, T) if square else (B, T, a.F if part in taps.WIDE else a.C)
        if np.shape(dy) != shape:
            raise ValueError(f"dtaps[{name!r}] must be {shape}, not {np.shape(dy)}")
        dy = real(f"dtaps[{name!r}]", dy).astype(DTYPES[ops.dtype])
        tapped.setdefault(layer, {})[part] = (
            taps.gather_squares(dy, rows.mask) if square else ops.place.send(rows.gather(dy))
        )
    return tapped
