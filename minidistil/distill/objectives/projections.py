"""A student together with the parameters of its terms: trained as one, saved apart."""

import zlib
from collections.abc import Mapping

import numpy as np

from minidistil.model.model import Model


class Projected:
    """A student with the parameters of its terms; every other attribute is the student's.

    `params` holds the student's parameters and, under `terms.0.project.weight` and so on, those of
    the terms: matrices N(0, 0.02) from `seed`, biases 0, as in TinyBERT. `save_pretrained` saves
    the student only. Raises ValueError for terms that do not fit the pair.
    """

    def __init__(self, student: Model, teacher, terms: tuple, seed: int = 0):
        self.student, self.terms = student, tuple(terms)
        self.learned = {}
        for number, term in enumerate(self.terms):
            wanted = term.shapes(student.config.architecture, teacher.config.architecture)
            for name, shape in wanted.items():
                name = f"terms.{number}.{name}"
                rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
                value = rng.normal(0, 0.02, shape) if len(shape) > 1 else np.zeros(shape)
                self._learn(name, value)

    def _learn(self, name, value):
        self.learned[name] = self.student.ops.place.freeze(value)

    def __getattr__(self, name):
        return getattr(self.student, name)

    @property
    def params(self) -> Mapping[str, np.ndarray]:
        return _Both(self.student.params, self.learned, self.student.ops.place)

    def update(self, arrays: Mapping[str, np.ndarray]) -> None:
        """As Model.update, including the parameters of the terms."""
        self.student.update({n: x for n, x in arrays.items() if n not in self.learned})
        for name, value in arrays.items():
            if name in self.learned:
                if np.shape(value) != self.learned[name].shape:
                    raise ValueError(
                        f"{name} must be {self.learned[name].shape}, not {np.shape(value)}"
                    )
                self._learn(name, value)


class _Both(Mapping):
    """The student's parameters, then the terms'."""

    def __init__(self, params, learned, place):
        self.params, self.learned, self.place = params, learned, place

    @property
    def arrays(self):
        """The arrays on the backend's device, read anew at each access."""
        return _Both(self.params.arrays, self.learned, None)

    def __getitem__(self, name):
        if name not in self.learned:
            return self.params[name]
        return self.learned[name] if self.place is None else self.place.fetch(self.learned[name])

    def __iter__(self):
        yield from self.params
        yield from self.learned

    def __len__(self):
        return len(self.params) + len(self.learned)
