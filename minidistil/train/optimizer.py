"""AdamW over a dictionary of parameters, and clipping by the global norm.

The optimiser works on arrays by name and is independent of any model. Parameters are read-only
outside a model, so a step returns new arrays: `model.update(optimizer.step(grads))`.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from importlib import import_module

import numpy as np

from minidistil.io.arguments import number, whole
from minidistil.io.limits import several, short
from minidistil.ops import BACKENDS, place_of


def decayed(params: Mapping[str, np.ndarray]) -> frozenset:
    """The names of the parameters with weight decay: arrays with two axes or more.

    Every bias and every LayerNorm has one axis, every table and weight matrix two. The original
    scripts match names instead and so decay `sa_layer_norm.weight`: their list has only
    "LayerNorm.weight".
    """
    return frozenset(name for name, p in params.items() if p.ndim >= 2)


class AdamW:
    """torch.optim.AdamW's numbers; `minidistil.ops.adamw` has the formula.

    params: mapping name -> array, read at each step, so it must be a view of the model's current
        parameters (`model.params` is).
    decay: names of the parameters with weight decay; None: those of `decayed`.
    rates: {name: what the learning rate is multiplied by} of the parameters that are trained;
        others have no moments, and a gradient of theirs is refused. None: all, at one rate.
    """

    def __init__(
        self, params: Mapping[str, np.ndarray], lr: float = 5e-4, betas: tuple = (0.9, 0.999),
        eps: float = 1e-8, weight_decay: float = 0.01, decay: Collection[str] | None = None,
        backend: str = "cpu", *, rates: Mapping[str, float] | None = None,
    ):  # fmt: skip
        if not isinstance(params, Mapping):
            raise TypeError(f"params must be {{name: array}}, not {short(params)}")
        if not isinstance(decay, Collection | None) or isinstance(decay, str):
            raise TypeError(f"decay must be a list of names, not {short(decay)}")
        if unknown := sorted(set(map(str, decay or ())) - set(params)):
            raise ValueError(f"decay names parameters that are not there: {several(unknown)}")
        if unknown := sorted(set(map(str, rates or ())) - set(params)):
            raise ValueError(f"rates name parameters that are not there: {several(unknown)}")
        self.update_all = _kernel("adamw", "update_all", backend)
        # A model's `params` copies from a device; `arrays` are on the device and updated there.
        self.params = params = getattr(params, "arrays", params)
        for name, p in params.items():
            _floats(f"parameter {name!r}", p)
        self.lr, self.betas = number("lr", lr, 0), _betas(betas)
        self.eps = number("eps", eps, 0)
        self.weight_decay = number("weight_decay", weight_decay, 0)
        self.decay = decayed(params) if decay is None else frozenset(decay)
        self.rates = dict.fromkeys(params, 1.0) if rates is None else dict(rates)
        self.frozen = frozenset(params) - frozenset(self.rates)
        self.t = 0
        self.place, self.backend = place_of(backend), backend
        self.m = {name: self.place.zeros_like(params[name]) for name in self.rates}
        self.v = {name: self.place.zeros_like(params[name]) for name in self.rates}

    def step(
        self, grads: Mapping[str, np.ndarray], lr: float | None = None, scale: float = 1.0
    ) -> dict[str, np.ndarray]:
        """grads: name -> array  ->  name -> new parameter, read-only, for the names in grads.

        scale: what every gradient is multiplied by first, such as a `clip_factor`.
        A parameter without a gradient stays the same. Raises TypeError or ValueError, changing
        nothing, for a gradient with the name or shape of no parameter, for a value that is not an
        array of floats, and for a negative lr.
        """
        return dict(self.steps(grads, lr, scale))

    def steps(
        self, grads: Mapping[str, np.ndarray], lr: float | None = None, scale: float = 1.0
    ) -> Iterator[tuple[str, np.ndarray]]:
        """The same as a lazy generator of (name, new parameter): apply each before requesting the
        next to avoid a second copy of the model."""
        if not isinstance(grads, Mapping):
            raise TypeError(f"step takes {{name: gradient}}, not {short(grads)}")
        lr = self.lr if lr is None else number("lr", lr, 0)
        for name, g in grads.items():
            if name not in self.m:
                raise ValueError(f"gradient {name!r} belongs to no parameter")
            _floats(f"gradient {name!r}", g)
            if g.shape != self.m[name].shape:
                raise ValueError(
                    f"gradient {name!r} has shape {g.shape}, its parameter {self.m[name].shape}"
                )
        self.t += 1
        for rate, some in self._by_rate(grads):
            fresh = self.updated(some, lr * rate, self.t, scale)
            for name, new in zip(some, fresh, strict=True):
                if isinstance(new, np.ndarray):
                    new.flags.writeable = False  # so a model can store it without copying
                yield name, new

    def _by_rate(self, grads):
        """[(rate, its gradients)]: a group for each rate, as PyTorch's parameter groups."""
        groups = {}
        for name, g in grads.items():
            groups.setdefault(self.rates[name], {})[name] = g
        return groups.items()

    def updated(self, grads, lr, t, scale):
        """grads: name -> array  ->  yields each new parameter of step t."""
        (beta1, beta2), params = self.betas, self.params
        arrays = ((params[n], self.m[n], self.v[n], g, n in self.decay) for n, g in grads.items())
        return self.update_all(
            arrays, lr=lr, beta1=beta1, beta2=beta2, eps=self.eps, step=t,
            weight_decay=self.weight_decay, scale=scale,
        )  # fmt: skip

    def state(self) -> dict:
        """The state for a checkpoint: {"t": int, "m": {name: array}, "v": {name: array}}."""
        m, v = ({n: self.place.fetch(a) for n, a in part.items()} for part in (self.m, self.v))
        return {"t": self.t, "m": m, "v": v}

    def load(self, state: Mapping) -> None:
        """Copy a state of `state()`. Raises TypeError or ValueError, changing nothing, for a state
        of other parameters."""
        if not isinstance(state, Mapping) or set(state) != {"t", "m", "v"}:
            raise TypeError("a saved optimiser holds t, m and v, as `state` gives them")
        t = whole("t", state["t"])
        for moments, saved in ((self.m, state["m"]), (self.v, state["v"])):
            if moments.keys() != saved.keys():
                names = ", ".join(sorted(moments.keys() ^ saved.keys()))
                raise ValueError(f"the saved optimiser has other parameters: {names}")
            for name, array in moments.items():
                if array.shape != saved[name].shape:
                    raise ValueError(
                        f"moments of {name!r} have shape {saved[name].shape} in the saved "
                        f"optimiser, the parameter {array.shape}"
                    )
                _floats(f"moments of {name!r}", saved[name])
        for moments, saved in ((self.m, state["m"]), (self.v, state["v"])):
            for name in moments:
                moments[name] = self.place.send(np.array(saved[name]))
        self.t = t

    def __getstate__(self):
        """For pickle and copy: NumPy arrays, and no functions. The parameters are copies; to train
        a model further, set `params` to the model's."""
        state = vars(self) | self.state() | {"params": self.params}
        for part in ("params", "m", "v"):
            arrays = state[part].items()
            state[part] = {name: np.array(self.place.fetch(x)) for name, x in arrays}
        return {name: x for name, x in state.items() if name not in ("update_all", "place")}

    def __setstate__(self, state):
        vars(self).update(state)
        self.place = place_of(self.backend)
        self.update_all = _kernel("adamw", "update_all", self.backend)
        for part in (self.params, self.m, self.v):
            part.update({name: self.place.send(x) for name, x in part.items()})


def _floats(name, x):
    """Raises TypeError unless x is an array of floats, on the host or a device."""
    if getattr(getattr(x, "dtype", None), "kind", None) != "f":
        kind = getattr(x, "dtype", type(x).__name__)
        raise TypeError(f"{name} must be an array of floats, not {kind}")


def _betas(betas):
    pair = tuple(betas) if isinstance(betas, list | tuple) else ()
    if len(pair) != 2 or not all(number("betas", beta, 0) < 1 for beta in pair):
        raise ValueError(f"betas must be two numbers from 0 to below 1, not {short(betas)}")
    return tuple(map(float, pair))


def clip(grads: dict[str, np.ndarray], max_norm: float, backend: str = "cpu") -> float:
    """Scale all gradients so that their global norm is at most max_norm; return the norm before.

    As torch.nn.utils.clip_grad_norm_. The entries of `grads` are replaced; the arrays are not
    written to. A training loop gives `global_norm` and `clip_factor` to the optimiser instead,
    which scales while it reads.
    """
    norm = global_norm(grads.values(), backend)
    if (scale := clip_factor(norm, max_norm)) != 1:
        for name, g in scaled(grads, scale, backend):
            grads[name] = g
    return norm


def global_norm(arrays: Iterable[np.ndarray], backend: str = "cpu") -> float:
    """√(Σ x²) over all values of all arrays."""
    return _kernel("global_norm", "norm", backend)(arrays)


def clip_factor(norm: float, max_norm: float) -> float:
    """What clipping multiplies gradients of this global norm by: max_norm/(norm + 1e-6) where that
    is below 1. With a norm that is not finite it is 1."""
    factor = max_norm / (norm + 1e-6)
    return factor if 0 < factor < 1 else 1.0


def scaled(grads, factor, backend="cpu"):
    """Yields each name with factor times its gradient, a new array. A caller that stores it in
    grads at once frees the old array before the next one is made."""
    names = list(grads)
    fresh = _kernel("global_norm", "scaled", backend)((grads[n] for n in names), factor)
    yield from zip(names, fresh, strict=True)


def _kernel(file, name, backend):
    """A function of `ops/`, imported on first use, as the ops are."""
    if not isinstance(backend, str) or backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, not {backend!r}")
    return getattr(import_module(f"minidistil.ops.{file}"), name + BACKENDS[backend])
