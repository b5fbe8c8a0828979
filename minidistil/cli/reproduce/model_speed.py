"""How many times as fast as its teacher a model reads sentences, and with what energy.

The sentences have the lengths of 32 from SST-2 (those of `minidistil bench`) and random words. All
models read them in turns, in which time and energy are measured, so that other load on the machine
affects all alike.
"""

import statistics
from functools import partial
from pathlib import Path

import numpy as np

from minidistil.cli.bench.timing import interleave
from minidistil.cli.bench.workloads import SENTENCES
from minidistil.io.energy import Energy
from minidistil.model.pretrained import from_pretrained, task_in

ROUNDS, SECONDS = 11, 20
PER = 1000  # sentences, of the energy


def speeds(folders: dict[str, Path], backend: str = "cpu") -> dict[str, dict]:
    """{name: folder}, the teacher first  ->  {name: times as fast, milliseconds, joules}.

    times: the median over rounds of the teacher's time divided by the model's. joules: of a
    thousand sentences, the mean over all calls.
    """
    runs = {name: _reading(folder, backend) for name, folder in folders.items()}
    for run in runs.values():
        run()  # the first call prepares the weights
    joules = {name: [] for name in runs}
    with Energy() as used:
        metered = {name: partial(_metered, run, used, joules[name]) for name, run in runs.items()}
        times = interleave(metered, ROUNDS, SECONDS)
    teachers, found = times[next(iter(runs))], {}
    for name, seconds in times.items():
        found[name] = {
            "times": statistics.median(t / s for t, s in zip(teachers, seconds, strict=True)),
            "ms": 1e3 * statistics.median(seconds),
            "joules": statistics.fmean(joules[name]) * PER / len(SENTENCES), "energy": used.source,
        }  # fmt: skip
    return found


def _metered(run, used, joules):
    """Call a function, and note its joules."""
    before = used.so_far()
    run()
    joules.append(used.so_far() - before)


def _reading(folder, backend):
    """A function that reads the sentences once, cut to the model's length."""
    model = from_pretrained(folder, task=task_in(folder), backend=backend)
    lengths = np.minimum(SENTENCES, model.config.architecture.longest)
    shape, rng = (len(lengths), lengths.max()), np.random.default_rng(0)
    batch = {
        "input_ids": rng.integers(0, model.config.vocab_size, shape),
        "attention_mask": (np.arange(shape[1]) < lengths[:, None]).astype(np.int64),
    }
    return lambda: model.forward(**batch, keep=False)
