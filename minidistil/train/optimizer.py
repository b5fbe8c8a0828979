"""AdamW over a dictionary of parameters, and clipping by the global norm.

The optimiser knows arrays and names, no model. Parameters are read-only outside a model, so a
step hands out new arrays and the model takes them: `model.update(optimizer.step(grads))`.
"""

from collections.abc import Collection, Mapping
from importlib import import_module

import numpy as np

from minidistil.io.arguments import number, whole
from minidistil.io.limits import several, short
from minidistil.ops import BACKENDS, place_of


def decayed(params):
    """The names that weight decay acts on: arrays with two axes or more.

    Every bias and every LayerNorm, whatever it is called, has one axis; every table and every
    weight matrix has two. Matching names instead is how the original scripts came to decay
    `sa_layer_norm.weight`: their list says "LayerNorm.weight".
    """
    return frozenset(name for name, p in params.items() if p.ndim >= 2)


class AdamW:
    """torch.optim.AdamW's numbers; `minidistil.ops.adamw` has the formula.

    params: mapping name -> array, read anew at each step, so it must follow the model
        (`model.params` does).
    decay: names of the parameters that decay; None means those of `decayed`.
    """

    def __init__(
        self, params, lr=5e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01,
        decay=None, backend="cpu",
    ):  # fmt: skip
        if not isinstance(params, Mapping):
            raise TypeError(f"params must be {{name: array}}, not {short(params)}")
        if not isinstance(decay, Collection | None) or isinstance(decay, str):
            raise TypeError(f"decay must be a list of names, not {short(decay)}")
        if unknown := sorted(set(map(str, decay or ())) - set(params)):
            raise ValueError(f"decay names parameters that are not there: {several(unknown)}")
        self.update_all = _kernel("adamw", "update_all", backend)
        # What a model's `params` fetches from a device is updated where it lives.
        self.params = params = getattr(params, "arrays", params)
        for name, p in params.items():
            _floats(f"parameter {name!r}", p)
        self.lr, self.betas = number("lr", lr, 0), _betas(betas)
        self.eps = number("eps", eps, 0)
        self.weight_decay = number("weight_decay", weight_decay, 0)
        self.decay = decayed(params) if decay is None else frozenset(decay)
        self.t = 0
        self.place, self.backend = place_of(backend), backend
        self.m = {name: self.place.zeros_like(p) for name, p in params.items()}
        self.v = {name: self.place.zeros_like(p) for name, p in params.items()}

    def step(self, grads, lr=None):
        """grads: name -> array  ->  name -> new parameter, read-only, for the names in grads.

        A parameter without a gradient stays as it is. Raises TypeError or ValueError, changing
        nothing: for a gradient whose name or shape no parameter has, for what is no array of
        floats, and for an lr that is no number from 0 up.
        """
        return dict(self.steps(grads, lr))

    def steps(self, grads, lr=None):
        """The same one by one, as (name, new parameter): whoever takes each before it asks for the
        next never holds two models at once."""
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
        fresh = self.updated(grads, lr, self.t)
        for name, new in zip(grads, fresh, strict=True):
            if isinstance(new, np.ndarray):
                new.flags.writeable = False  # a model can keep it without a copy of its own
            yield name, new

    def updated(self, grads, lr, t):
        """grads: name -> array  ->  yields each new parameter, as step t makes it."""
        (beta1, beta2), params = self.betas, self.params
        arrays = ((params[n], self.m[n], self.v[n], g, n in self.decay) for n, g in grads.items())
        return self.update_all(
            arrays, lr=lr, beta1=beta1, beta2=beta2, eps=self.eps, step=t,
            weight_decay=self.weight_decay,
        )  # fmt: skip

    def state(self):
        """What a checkpoint needs: {"t": int, "m": {name: array}, "v": {name: array}}."""
        m, v = ({n: self.place.fetch(a) for n, a in part.items()} for part in (self.m, self.v))
        return {"t": self.t, "m": m, "v": v}

    def load(self, state):
        """Take over what `state` gave, by copying it. Raises TypeError or ValueError for what is
        no state of these parameters, changing nothing."""
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
        """For pickle and copy: arrays as NumPy's, and no functions. The parameters are those of
        this moment; set `params` anew for a model that is trained further."""
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
    """Raises TypeError for what is no array of floats, here or on a device."""
    if getattr(getattr(x, "dtype", None), "kind", None) != "f":
        kind = getattr(x, "dtype", type(x).__name__)
        raise TypeError(f"{name} must be an array of floats, not {kind}")


def _betas(betas):
    pair = tuple(betas) if isinstance(betas, list | tuple) else ()
    if len(pair) != 2 or not all(number("betas", beta, 0) < 1 for beta in pair):
        raise ValueError(f"betas must be two numbers from 0 to below 1, not {short(betas)}")
    return tuple(map(float, pair))


def clip(grads, max_norm, backend="cpu"):
    """Scale all gradients down to a common length of max_norm; return the length before.

    As torch.nn.utils.clip_grad_norm_: times max_norm/(norm + 1e-6) where that is below 1. The
    entries of `grads` are replaced, the arrays themselves stay untouched. A length that is not
    finite is returned and nothing scaled.
    """
    norm = _kernel("global_norm", "norm", backend)(grads.values())
    scale = max_norm / (norm + 1e-6)
    if 0 < scale < 1:
        for name, g in scaled(grads, scale, backend):
            grads[name] = g
    return norm


def length(x, backend="cpu"):
    """The root of the sum of squares of one array."""
    return _kernel("global_norm", "norm", backend)([x])


def scaled(grads, factor, backend="cpu"):
    """Yields each name with factor times its gradient, a fresh array: where the caller puts it back
    into grads, the one before is free at once."""
    names = list(grads)
    fresh = _kernel("global_norm", "scaled", backend)((grads[n] for n in names), factor)
    yield from zip(names, fresh, strict=True)


def _kernel(file, name, backend):
    """A function of `ops/`, imported when it is needed, as the ops are."""
    if not isinstance(backend, str) or backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, not {backend!r}")
    return getattr(import_module(f"minidistil.ops.{file}"), name + BACKENDS[backend])
