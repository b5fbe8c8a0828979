"""What the layers of all families share: linear layers, LayerNorm, attention, the feed-forward."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np


class LayerRun:
    """One layer in a run of a program: its results are kept in `values` under the layer's name.

    i: the layer's number. p: its parameters. do(op, site, …): the op, or the mistake in its place.
    """

    def __init__(
        self, architecture, i: int, p: Mapping[str, np.ndarray], do: Callable, values: dict
    ):
        self.a, self.p, self.do = architecture, p, do
        self.values, self.name = values, f"layer.{i}"

    def keep(self, name: str, value: np.ndarray) -> np.ndarray:
        """Store a result as a quantity of the layer  ->  the result."""
        self.values[f"{self.name}.{name}"] = value
        return value

    def linear(self, site: str, z: np.ndarray) -> np.ndarray:
        """z (B,T,in)  ->  z·Wᵀ + b (B,T,out), kept."""
        weight, bias = self.p[f"{site}.weight"], self.p[f"{site}.bias"]
        return self.keep(site, self.do("linear", site, z, weight, bias))

    def norm(self, site: str, z: np.ndarray) -> np.ndarray:
        """LayerNorm of z (B,T,C)."""
        gamma, beta = self.p[f"{site}.weight"], self.p[f"{site}.bias"]
        return self.do("layernorm", site, z, gamma, beta, eps=self.a.eps)

    def residual(self, z: np.ndarray, f: np.ndarray, name: str) -> np.ndarray:
        """z + f (B,T,C), kept."""
        return self.keep(name, self.do("residual", name, z, f))

    def attention(
        self,
        inputs: Sequence[np.ndarray],
        weights: Callable,
        prefix: str = "",
        context_of: Callable = lambda context, q, k, v: context,
    ) -> np.ndarray:
        """The inputs (B,T,C) of q, k and v  ->  attention's output projection (B,T_q,C).

        weights(scores)  ->  attention weights (B,H,T_q,T_k). context_of(context, q, k, v)  ->  the
        context (B,T_q,C). prefix: "cross_" for cross attention.
        """
        q, k, v = (self.linear(prefix + site, z) for site, z in zip("qkv", inputs, strict=True))
        split, merge = self.do("heads", "heads", self.a.H)
        scores = self.do("scores", f"{prefix}scores", split(q), split(k))
        a = self.keep(f"{prefix}probs", weights(self.keep(f"{prefix}scores", scores)))
        context = context_of(merge(a @ split(v)), q, k, v)
        return self.linear(f"{prefix}out", self.keep(f"{prefix}context", context))

    def feed(self, z: np.ndarray) -> np.ndarray:
        """The feed-forward: z (B,T,C)  ->  (B,T,C)."""
        g = self.do("activation", "activation", self.linear("lin1", z), name=self.a.activation)
        return self.linear("lin2", self.keep("activation", g))
