"""The toy's run on the ranks that start it: python mpi_toy.py FOLDER OPTIONS."""

import json
import sys

from train_toy import ToyData, ToyObjective, config, evaluate

from minidistil.train import Run, gradient_sum
from minidistil.train.loop import run_loop

if __name__ == "__main__":
    gradient_sum.BUCKET = 64  # bytes: each array of the toy is a bucket
    folder, options = sys.argv[1], json.loads(sys.argv[2])
    resume = options.pop("resume", False)
    run_loop(
        ToyObjective(), ToyData(), config(backend="numpy", log_every=1, **options),
        run=Run(folder, resume=resume), evaluate=evaluate, resume=resume, progress=False,
    )  # fmt: skip
