"""Training: AdamW, learning-rate schedules, and a loop whose resumed runs have the same bits.

Start at `loop.py`. `optimizer.py` and `schedule.py` are the parts of a step; `run_folder.py` and
`training_state.py` are the files of a run.
"""

from collections.abc import Callable
from pathlib import Path

from minidistil.distill import DistillConfig
from minidistil.io.limits import short
from minidistil.train.loop import run_loop
from minidistil.train.optimizer import AdamW, clip
from minidistil.train.run_folder import Run
from minidistil.train.train_config import TrainConfig
from minidistil.train.training_objectives import (
    Distillation,
    Supervised,
    counting_of,
    objective_for,
)

__all__ = [
    "AdamW", "Distillation", "Run", "Supervised", "TrainConfig", "clip", "counting_of", "train",
]  # fmt: skip


def train(
    model_or_pair, data, config: TrainConfig, *, distill: DistillConfig | None = None,
    run: Run | str | Path | None = None, evaluate: Callable | None = None, resume: bool = False,
    progress: bool = True,
) -> dict:  # fmt: skip
    """Train a model on its own labels, or a pair (student, teacher) by distillation; in place.

    config: TrainConfig. distill: DistillConfig of a pair. data, run, evaluate, resume, the
    returned summary and what is raised: see `minidistil.train.loop.run_loop`.
    """
    if not isinstance(config, TrainConfig):
        raise TypeError(f"config must be a TrainConfig, not {short(config)}")
    for name in ("batches", "collate"):
        if not hasattr(data, name):
            raise TypeError(f"data must have `{name}`, as LabelledText; not {short(data)}")
    objective = objective_for(model_or_pair, distill, counting_of(config))
    if not hasattr(objective.model, "params"):
        raise TypeError(f"what is trained must be a model, not {short(model_or_pair)}")
    return run_loop(
        objective, data, config, run=run, evaluate=evaluate, resume=resume, progress=progress
    )
