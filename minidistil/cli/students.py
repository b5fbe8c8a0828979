"""Several students trained one after another on the same batches, and how they compare."""

import dataclasses
import math
import time
from dataclasses import dataclass
from pathlib import Path

from minidistil.cli.chosen_rate import with_rates
from minidistil.cli.task_options import measure_kept
from minidistil.data.two_tokenizers import as_teacher_reads
from minidistil.io.ranks import world
from minidistil.tasks.measuring import answers, measure
from minidistil.train.best import wanted
from minidistil.train.budget import steps_for
from minidistil.train.loop import run_loop
from minidistil.train.optimizer import AdamW, clip_factor, global_norm
from minidistil.train.run_folder import Run

CURVE = 4  # curves alone are measured on a quarter of the held-out batches; choices on all


@dataclass(frozen=True)
class Entry:
    """A student after its training."""

    name: str
    folder: Path
    model: object
    summary: dict


class _Part(Run):
    """A run inside the folder of another one, resumed together with it."""

    def how_to_resume(self):
        return self.whole.how_to_resume()


def part_folder(name):
    """ "same start, no teacher" -> "same-start-no-teacher"."""
    return name.replace(",", "").replace(" ", "-")


def _part(whole, name):
    folder = Path(whole.folder) / part_folder(name)
    begun = world().first(lambda: (folder / "run.json").exists())
    part = _Part(folder, whole.command, whole.options, begun)
    part.whole = whole
    return part


class _Together:
    """All students as one objective: to time a step of each."""

    def __init__(self, objectives, config):
        self.objectives, self.config = list(objectives), config
        self.model = self.objectives[0].model
        self.optimizers = [
            AdamW(o.model.params, backend=config.backend) for o in self.objectives[1:]
        ]

    def gradients(self, batch, **place):
        for objective, optimizer in zip(self.objectives[1:], self.optimizers, strict=True):
            _, grads = objective.gradients(batch, **place)
            norm = global_norm(grads.values(), self.config.backend)
            optimizer.step(grads, scale=clip_factor(norm, self.config.max_grad_norm or math.inf))
        return self.objectives[0].gradients(batch, **place)


def settle(config, run, objectives, data):
    """The config with its budget converted to steps, the same for every student.

    Minutes are those of training, all students together; reading the data and compiling kernels
    are not part of them.
    """
    if run.resumed:
        steps = run.plan["steps"]
    else:
        batches = _batches_during(config, data)
        steps = steps_for(
            _Together(objectives.values(), config), data, config,
            lambda _: [measure(o.model, batches) for o in objectives.values()],
        )  # fmt: skip
    return dataclasses.replace(config, steps=steps, tokens=None, minutes=None, epochs=None)


def rates_of_students(configs, args, run, objectives, data):
    """{name: config} of the students, with --lr search each with the learning rate that its own
    search found."""
    batches = data.evaluation_batches()
    return with_rates(configs, args, run, objectives, data, lambda model: measure(model, batches))


def train_all(run, objectives, data, configs, teacher, save):
    """Train each; the first in run's own folder. Returns entries, and whether all finished.

    save(entry): saves a student as soon as it is trained, even if the next one fails. After
    Ctrl-C the entries end with the interrupted one, which is not saved.
    """
    batches = _batches_during(next(iter(configs.values())), data)
    reference, entries = answers(teacher, list(map(as_teacher_reads, batches))), []
    for number, (name, objective) in enumerate(objectives.items()):
        own = run if number == 0 else _part(run, name)
        summary = run_loop(
            objective, data, configs[name], run=own, resume=own.resumed, progress=name,
            evaluate=lambda model: measure(model, batches, reference),
        )  # fmt: skip
        trained = getattr(objective.model, "student", objective.model)  # without projections
        entries.append(Entry(name, Path(own.folder), trained, summary))
        if summary["interrupted"]:
            return entries, False
        if world().rank == 0:
            save(entries[-1])
    return entries, True


def _batches_during(config, data):
    """What is evaluated during the training: all held-out batches where an evaluation chooses the
    model, or when to stop."""
    batches = data.evaluation_batches()
    return batches if wanted(config) else batches[: math.ceil(len(batches) / CURVE)]


def compare(teacher, entries, batches):
    """A dict a model: name, its measures on all held-out batches, agreement with the teacher, the
    share of the teacher's metric that is kept (see `measure_kept`), parameters, bytes in float32,
    and tokens read per second of evaluation."""
    theirs = list(map(as_teacher_reads, batches))
    reference = answers(teacher, theirs)
    rows = []
    for name, model in [("teacher", teacher), *((e.name, e.model) for e in entries)]:
        read = theirs if name == "teacher" else batches
        tokens = sum(int(batch["attention_mask"].sum()) for batch in read)
        before = time.perf_counter()
        found = measure(model, read, reference)
        seconds = time.perf_counter() - before
        parameters = sum(p.size for p in model.params.values())
        if metric := measure_kept(teacher.task, found):
            whole = rows[0][metric] if rows else found[metric]
            found["kept"] = found[metric] / whole if whole > 0 else None
        rows.append({
            "name": name, **found, "parameters": parameters, "bytes": 4 * parameters,
            "tokens_per_second": tokens / seconds,
        })  # fmt: skip
    return rows
