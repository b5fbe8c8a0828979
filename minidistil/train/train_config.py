"""TrainConfig: the options of a training run, one frozen dataclass that validates itself."""

import math
from dataclasses import asdict, dataclass, fields

from minidistil.io.arguments import number, one_of, whole
from minidistil.io.limits import several, short
from minidistil.ops import BACKENDS
from minidistil.train.schedule import SCHEDULES

OPTIMIZERS = ("adamw", "bertadam", "lamb")
KEPT = ("last", "best")
BUDGETS = ("steps", "tokens", "minutes", "epochs")


@dataclass(frozen=True)
class TrainConfig:
    """Options of `minidistil.train.train`. Raises ValueError for an option out of range.

    steps, tokens, minutes, epochs: the budget, exactly one of them. The others are converted to
        steps before the first step, as the schedule needs their number. A step is one update of
        the parameters; tokens do not include padding.
    layer_decay, freeze: learning rates by layer, and parts of the model that are not trained, see
        `minidistil.train.layer_rates`.
    optimizer: adamw, or bertadam or lamb as `minidistil.train.bert_optimizers` has them.
    warmup: steps when an integer, a share of all steps when a fraction below 1.
    max_grad_norm: 0 means no clipping.
    accumulate: micro-batches a step, of each rank under MPI. Their gradients add up to those of one
        large batch.
    deterministic: under MPI, sum over the ranks in one order, that of a single process; overlap:
        while the backward is still working. See `minidistil.train.gradient_sum`.
    batch_tokens: tokens of a micro-batch, used when the data is made.
    patience: stop after so many evaluations in a row without a better one; None: never.
    keep: "last", or "best": the parameters with the best evaluation.
    measure: the evaluation's number that `patience` and `keep` compare: a name, or several, of
        which the first in the evaluation is used; by default its loss.
    class_weights: of a classifier's labels, one number a class, in their order; None: all 1.
    label_smoothing: the share of a label that is spread over all classes, 0 to below 1.
    log_every, eval_every, checkpoint_every: in steps; None means about 200 log lines, 10
        evaluations and 10 checkpoints over the run.
    seed: of dropout. The data has its own.
    """

    optimizer: str = "adamw"
    lr: float = 5e-4
    betas: tuple = (0.9, 0.999)
    eps: float = 1e-6
    weight_decay: float = 0.01
    schedule: str = "linear"
    warmup: float = 0.05
    max_grad_norm: float = 1.0
    accumulate: int = 1
    deterministic: bool = False
    overlap: bool = True
    steps: int | None = None
    tokens: int | None = None
    minutes: float | None = None
    epochs: int | None = None
    batch_tokens: int = 4096
    log_every: int | None = None
    eval_every: int | None = None
    checkpoint_every: int | None = None
    seed: int = 0
    backend: str = "cpu"
    patience: int | None = None
    keep: str = "last"
    measure: tuple = ()
    class_weights: tuple | None = None
    label_smoothing: float = 0.0
    layer_decay: float = 1.0
    freeze: tuple = ()

    def __post_init__(self):
        pair = self.betas if isinstance(self.betas, list | tuple) else ()
        if len(pair) != 2 or not all(number("betas", beta, 0) < 1 for beta in pair):
            raise ValueError(
                f"betas must be two numbers from 0 to below 1, not {short(self.betas)}"
            )
        object.__setattr__(self, "betas", tuple(pair))
        measure = (self.measure,) if isinstance(self.measure, str) else tuple(self.measure or ())
        object.__setattr__(self, "measure", measure)
        freeze = (self.freeze,) if isinstance(self.freeze, str | int) else tuple(self.freeze)
        object.__setattr__(self, "freeze", freeze)
        self._check_labels()
        given = [name for name in BUDGETS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"a run has one budget, {', '.join(BUDGETS[:-1])} or {BUDGETS[-1]}; "
                f"given: {' and '.join(given) or 'none'}"
            )
        for name in ("steps", "tokens", "epochs", "accumulate", "batch_tokens", "log_every",
                     "eval_every", "checkpoint_every", "patience"):  # fmt: skip
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value is True or value < 1):
                raise ValueError(f"{name} must be a whole number above 0, not {value!r}")
        for name in ("lr", "eps", "minutes"):
            if name != "minutes" or self.minutes is not None:
                number(name, getattr(self, name), 0, True, "a finite number above 0")
        for name in ("weight_decay", "warmup", "max_grad_norm"):
            number(name, getattr(self, name), 0, rule="0 or more")
        if self.warmup >= 1 and self.warmup != int(self.warmup):
            raise ValueError(
                f"warmup must be a share below 1 or a whole number of steps, not {self.warmup!r}"
            )
        if not 0 < number("layer_decay", self.layer_decay) <= 1:
            raise ValueError(f"layer_decay must be above 0 and at most 1, not {self.layer_decay!r}")
        one_of("optimizer", self.optimizer, OPTIMIZERS)
        one_of("schedule", self.schedule, SCHEDULES)
        one_of("backend", self.backend, BACKENDS)
        whole("seed", self.seed)
        one_of("keep", self.keep, KEPT)

    def _check_labels(self):
        """class_weights become a tuple of floats, or None; checks both options of labels."""
        if self.class_weights is not None:
            weights = tuple(float(w) for w in self.class_weights)
            if not weights or not all(0 <= w < math.inf for w in weights) or not any(weights):
                raise ValueError(
                    f"class_weights must be finite numbers from 0 up, one of them above 0, not "
                    f"{self.class_weights!r}"
                )
            object.__setattr__(self, "class_weights", weights)
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(
                f"label_smoothing must be from 0 to below 1, not {self.label_smoothing!r}"
            )

    def warmup_steps(self, steps: int) -> int:
        """The warm-up in steps; a share is rounded up, as in transformers."""
        return math.ceil(self.warmup * steps) if self.warmup < 1 else int(self.warmup)

    def to_dict(self) -> dict:
        """The options as JSON values."""
        tuples = {n: x for n, x in asdict(self).items() if isinstance(x, tuple)}
        return asdict(self) | {name: list(x) for name, x in tuples.items()}

    @classmethod
    def from_dict(cls, values: dict) -> "TrainConfig":
        """The inverse of `to_dict`. Raises ValueError for an unknown option."""
        if unknown := sorted(set(values) - {f.name for f in fields(cls)}):
            raise ValueError(f"no such training option: {several(unknown)}")
        return cls(**values)
