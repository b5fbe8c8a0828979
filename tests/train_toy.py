"""A model of two arrays and data of two columns: all that the loop needs, in microseconds."""

import os
import sys
import time
from pathlib import Path
from types import MappingProxyType

import numpy as np

from minidistil.train.loop import run_loop
from minidistil.train.run_folder import Run
from minidistil.train.train_config import TrainConfig


class ToyModel:
    def __init__(self):
        rng = np.random.default_rng(0)
        self._params = {
            "dense.weight": rng.normal(size=(8, 5)).astype(np.float32),
            "dense.bias": np.zeros(8, np.float32),
        }
        self.params = MappingProxyType(self._params)

    def update(self, new):
        for name, array in new.items():
            assert array.shape == self._params[name].shape
            array.setflags(write=False)
            self._params[name] = array


class ToyObjective:
    """Least squares, with noise that depends on seed, step and sequence as dropout would."""

    def __init__(self, pause=0.0, bad_step=None):
        self.model, self.pause, self.bad_step, self.calls = ToyModel(), pause, bad_step, []

    def gradients(self, batch, *, seed, step, first_sequence):
        time.sleep(self.pause)
        self.calls.append((step, first_sequence))
        x = batch["input_ids"].astype(np.float32) / 7  # (B,5)
        weight, bias = self.model.params["dense.weight"], self.model.params["dense.bias"]
        noise = np.random.default_rng((seed, step, first_sequence)).normal(size=(len(x), 8))
        error = x @ weight.T + bias - batch["labels"][:, None] / 3 + 0.1 * noise
        error = error.astype(np.float32)  # (B,8)
        loss = float((error**2).mean()) if step != self.bad_step else float("nan")
        grad = 2 * error / error.size
        grads = {"dense.weight": grad.T @ x, "dense.bias": grad.sum(axis=0)}
        return {"loss": loss, "mlm": loss / 2}, grads

    def diagnose(self, batch, *, seed, step, first_sequence):
        return "layer 0: softmax gave NaN"


class ToyData:
    """Sequences of 5 ids with a mask; the order follows from the epoch."""

    def __init__(self, count=23, size=4):
        self.count, self.size = count, size

    def batches(self, epoch):
        order = np.random.default_rng((1, epoch)).permutation(self.count)
        return [order[i : i + self.size] for i in range(0, self.count, self.size)]

    def collate(self, indices, *, step, first_sequence):
        rng = np.random.default_rng((2, step, first_sequence))
        ids = (indices[:, None] * 3 + np.arange(5)) % 11 + rng.integers(0, 2, (len(indices), 5))
        mask = np.ones_like(ids)
        mask[0, 3:] = 0
        return {"input_ids": ids * mask, "attention_mask": mask, "labels": indices % 4}


def evaluate(model):
    return {"size": float(np.abs(model.params["dense.weight"]).sum())}


def config(**changes):
    options = {"steps": 40, "log_every": 3, "eval_every": 10, "checkpoint_every": 5,
               "accumulate": 2, "lr": 0.01}  # fmt: skip
    return TrainConfig(**(options | changes))


def main(folder, pause):
    """A process to kill: train in `folder`, going on with whatever is there."""
    objective = ToyObjective(pause=float(pause))
    run = Run(folder, command="toy", resume=(Path(folder) / "run.json").exists())
    print("ready", os.getpid(), flush=True)
    summary = run_loop(objective, ToyData(), config(), run=run, evaluate=evaluate)
    np.savez(Path(folder) / "final.npz", **objective.model.params)
    return 130 if summary["interrupted"] else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
