"""What a training run is told: one frozen dataclass, checked when it is made."""

import math
from dataclasses import asdict, dataclass, fields

from minidistil.train.schedule import SCHEDULES

OPTIMIZERS = ("adamw", "bertadam", "lamb")
BUDGETS = ("steps", "tokens", "minutes", "epochs")


@dataclass(frozen=True)
class TrainConfig:
    """Options of `minidistil.train.train`. Raises ValueError when one makes no sense.

    steps, tokens, minutes, epochs: the budget, exactly one of them. All but steps are turned
        into steps once, before the first, so that the schedule knows its end. A step is one
        update of the parameters; tokens are real ones, not padding.
    optimizer: adamw, or bertadam or lamb as `minidistil.train.relatives` has them.
    warmup: steps when an integer, a share of all steps when a fraction below 1.
    max_grad_norm: 0 means no clipping.
    accumulate: micro-batches a step, which count as one batch would: each label of them the same.
    batch_tokens: how many tokens a micro-batch holds, for whoever builds the data.
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

    def __post_init__(self):
        object.__setattr__(self, "betas", tuple(self.betas))
        given = [name for name in BUDGETS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"a run has one budget, {', '.join(BUDGETS[:-1])} or {BUDGETS[-1]}; "
                f"given: {' and '.join(given) or 'none'}"
            )
        for name in ("steps", "tokens", "epochs", "accumulate", "batch_tokens", "log_every",
                     "eval_every", "checkpoint_every"):  # fmt: skip
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ValueError(f"{name} must be a whole number above 0, not {value!r}")
        for name in ("lr", "eps", "minutes"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be a finite number above 0, not {value!r}")
        for name in ("weight_decay", "warmup", "max_grad_norm"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be 0 or more, not {getattr(self, name)!r}")
        if self.warmup >= 1 and self.warmup != int(self.warmup):
            raise ValueError(
                f"warmup must be a share below 1 or a whole number of steps, not {self.warmup!r}"
            )
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be two numbers from 0 to below 1, not {self.betas!r}")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(
                f"optimizer must be one of {', '.join(OPTIMIZERS)}, not {self.optimizer!r}"
            )
        if self.schedule not in SCHEDULES:
            raise ValueError(
                f"schedule must be one of {', '.join(SCHEDULES)}, not {self.schedule!r}"
            )

    def warmup_steps(self, steps):
        """A share is rounded up, as transformers does."""
        return math.ceil(self.warmup * steps) if self.warmup < 1 else int(self.warmup)

    def to_dict(self):
        return asdict(self) | {"betas": list(self.betas)}

    @classmethod
    def from_dict(cls, values):
        """Inverse of `to_dict`. Raises ValueError for a name that is no option."""
        if unknown := sorted(set(values) - {f.name for f in fields(cls)}):
            raise ValueError(f"no such training option: {', '.join(unknown)}")
        return cls(**values)
