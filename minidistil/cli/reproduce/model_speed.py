"""How many times as fast as its teacher a model reads sentences, and with what energy.

The sentences have the lengths of 32 from SST-2 (those of `minidistil bench`) and random words. All
models read them in turns, so that other load on the machine affects all alike.
"""

import statistics
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
    thousand sentences.
    """
    runs = {name: _reading(folder, backend) for name, folder in folders.items()}
    times = interleave(runs, ROUNDS, SECONDS)
    teachers, found = times[next(iter(runs))], {}
    for name, run in runs.items():
        with Energy() as used:
            seconds = times[name]
            calls = max(1, round(1 / statistics.median(seconds)))  # about a second
            for _ in range(calls):
                run()
        found[name] = {
            "times": statistics.median(t / s for t, s in zip(teachers, seconds, strict=True)),
            "ms": 1e3 * statistics.median(seconds),
            "joules": used.joules * PER / (calls * len(SENTENCES)), "energy": used.source,
        }  # fmt: skip
    return found


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
