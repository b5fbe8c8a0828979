"""Conversion of a budget in tokens, epochs or minutes to steps, and the gradients of one step.

The schedule needs the number of steps, and a resumed run ends where the uninterrupted one would.
So the number is computed once, before the first step, and stored: a run of `minutes` that comes to
812 steps has the same bits as a run of 812 steps.
"""

import dataclasses
import math
import sys
import time
import warnings
from collections.abc import Collection

from tqdm import tqdm

from minidistil.io.counts import counted
from minidistil.io.ranks import world
from minidistil.model.frozen_parts import frozen_up_to
from minidistil.model.label_counts import shares_of
from minidistil.train.gradient_sum import gradient_sum
from minidistil.train.layer_rates import frozen_bottom, layer_rates
from minidistil.train.optimizer import AdamW, clip_factor, global_norm, scaled
from minidistil.train.train_config import TrainConfig

WARM, TIMED = 2, 8  # the first steps compile kernels: they are not timed and cost no budget
SHARE = 0.25  # the timing takes at most about this share of the minutes
SAMPLE = 32  # batches whose mean size is used for all


def bar(steps, progress, **options):
    """A progress bar on stderr, silent when that is not a terminal."""
    disable = None if progress else True
    return tqdm(steps, file=sys.stderr, disable=disable, dynamic_ncols=True, **options)


class Feed:
    """Micro-batches of all epochs in order; its position is two integers, epoch and index."""

    def __init__(self, data, epoch=0, index=0):
        self.data, self.epoch, self.index, self.batches = data, epoch, index, None

    def next(self):
        """Indices of the next micro-batch."""
        if self.batches is None:
            self.batches = self._load()
        while self.index >= len(self.batches):
            self.epoch, self.index = self.epoch + 1, 0
            self.batches = self._load()
        self.index += 1
        return self.batches[self.index - 1]

    def _load(self):
        batches = self.data.batches(self.epoch)
        if not len(batches):
            raise ValueError(f"the data gives no batch in epoch {self.epoch}; it needs more text")
        return batches


def step_gradients(
    objective, feed: Feed, config: TrainConfig, step: int, frozen: Collection[str] = ()
) -> tuple:  # fmt: skip
    """One step's gradients: parts and grads of all its micro-batches, as one batch would give them.

    frozen: names of parameters whose gradients are left out.
    Under MPI a rank reads and computes its share of them, see `minidistil.train.gradient_sum`.
    Without `counts` of the objective, the micro-batches' means are averaged. Returns parts, grads,
    tokens (without padding) and this rank's batches [(batch, first_sequence)].
    """
    ranks, M = world(), config.accumulate
    batches = _read(feed, M, step)
    mine, present = places(objective, batches, step, M)
    share = 1 if hasattr(objective, "counts") else 1 / M
    total, parts = gradient_sum(objective, config, present, frozen), []
    for number in range(ranks.rank, M + ranks.rank, ranks.size):  # rounds; the last may lack it
        new, grads = None, {}
        if number < M and present[number]:
            batch, place = mine[number // ranks.size]
            with total.receiving(), frozen_up_to(frozen_bottom(config.freeze)):
                new, grads = objective.gradients(batch, seed=config.seed, step=step, **place)
        parts.append(new)
        total.add(grads)
    sums = {}
    for new in filter(None, ranks.in_order(parts)):
        for name, part in new.items():
            sums[name] = sums.get(name, 0.0) + float(part) * share
    grads = total.result()
    if share != 1:
        grads = dict(scaled(grads, share, config.backend))
    if hasattr(objective, "varying"):
        sums |= objective.varying(step)
    tokens = sum(ranks.gather(sum(int(batch["attention_mask"].sum()) for batch, _ in batches)))
    return sums, grads, tokens, batches


def _read(feed, M, step):
    """[(batch, first_sequence)] of this rank's share of the next M micro-batches."""
    ranks, found, first = world(), [], 0
    for number in range(M):
        indices = feed.next()
        sequences = len(indices)
        if number % ranks.size == ranks.rank:
            batch = feed.data.collate(indices, step=step, first_sequence=first)
            found.append((batch, first))
            if sequences != len(batch["attention_mask"]) and ranks.size > 1:
                raise ValueError(
                    f"under MPI a batch has one sequence for each index, not "
                    f"{len(batch['attention_mask'])} for {sequences}; change the data's `collate`"
                )
            sequences = len(batch["attention_mask"])
        first += sequences
    return found


def places(objective, batches: list, step: int, M: int) -> tuple[list, list[bool]]:
    """This rank's [(batch, first_sequence)] of M micro-batches  ->  [(batch, {"first_sequence",
    "shares"} for `gradients`)], and for each of the M whether it is computed.

    With several micro-batches and an objective with `counts`, each has its shares of the whole
    batch's means; one without any share is left out.
    """
    found = [(batch, {"first_sequence": first}) for batch, first in batches]
    if M == 1 or not hasattr(objective, "counts"):
        return found, [True] * M
    ranks = world()
    columns = max((batch["attention_mask"].shape[-1] for batch, _ in batches), default=0)
    width = max(ranks.gather(columns))
    counted = [
        (objective.counts(batch, step=step), objective.counts(batch, step=step, width=width))
        for batch, _ in batches
    ]
    shares = shares_of(ranks.in_order(counted))
    for (_, place), its in zip(found, ranks.share(shares), strict=True):
        place["shares"] = its
    present = [any(its.values()) for its in shares]
    return found, present if any(present) else [True] * M


def whole_batch(config: TrainConfig, ranks: int) -> TrainConfig:
    """The config with the micro-batches of all ranks as `accumulate`.

    ranks: how many the run began with: its batch stays the same on another number of ranks.
    """
    M = config.accumulate * ranks
    if world().size > M and world().rank == 0:
        warnings.warn(
            f"a step has {counted(M, 'micro-batch')}: only as many of "
            f"{world().size} ranks have work; start no more than that",
            stacklevel=4,
        )
    return dataclasses.replace(config, accumulate=M)


def steps_for(objective, data, config: TrainConfig, evaluate=None, progress: bool = False) -> int:
    """The number of steps of config's budget, at least one; approximate for tokens and minutes."""
    config = whole_batch(config, world().size)
    if config.steps is not None:
        return config.steps
    if config.epochs is not None:
        micro = sum(len(data.batches(epoch)) for epoch in range(config.epochs))
        return max(1, math.ceil(micro / config.accumulate))
    if config.tokens is not None:
        feed = Feed(data)
        batches = [data.collate(feed.next(), step=n, first_sequence=0) for n in range(SAMPLE)]
        size = sum(int(batch["attention_mask"].sum()) for batch in batches) / SAMPLE
        return max(1, math.ceil(config.tokens / size / config.accumulate))
    return _steps_in(config.minutes * 60, objective, data, config, evaluate, progress)


def _steps_in(seconds, objective, data, config, evaluate, progress):
    """Steps that fit, from the time of some steps, whose results are discarded, and of an
    evaluation. The seconds begin when kernels are compiled, after an evaluation and WARM steps."""
    rates = layer_rates(objective.model, config)
    optimizer = AdamW(objective.model.params, backend=config.backend, rates=rates)
    feed, times = Feed(data), []
    if evaluate is not None:
        evaluate(objective.model)
    start = time.perf_counter()
    for step in bar(range(WARM + TIMED), progress, desc="timing a step", leave=False):
        before = time.perf_counter()
        if step == WARM:
            start = before
        _, grads, _, _ = step_gradients(objective, feed, config, step, optimizer.frozen)
        norm = global_norm(grads.values(), config.backend)
        optimizer.step(grads, scale=clip_factor(norm, config.max_grad_norm or math.inf))
        times.append(time.perf_counter() - before)
        late = step >= WARM and time.perf_counter() - start > SHARE * seconds
        if world().first(lambda: late):  # noqa: B023  (called at once)
            break
    timed = times[WARM:]
    a_step, an_evaluation = sum(timed) / len(timed), 0.0
    if evaluate is not None:
        before = time.perf_counter()
        evaluate(objective.model)
        an_evaluation = time.perf_counter() - before
    left = seconds - (time.perf_counter() - start) - an_evaluation  # the one before step 1
    if config.eval_every is None:
        left -= EVALUATIONS * an_evaluation
    else:
        a_step += an_evaluation / config.eval_every
    return world().first(lambda: max(1, int(left / a_step)))


LOGS, EVALUATIONS, CHECKPOINTS = 200, 10, 10  # a run, by default


def plan(config: TrainConfig, steps: int) -> dict:
    """The plan that run.json stores: the number of steps, the warm-up, intervals, the config."""

    def every(given, times):
        return given or max(1, steps // times)

    return {
        "steps": steps,
        "warmup": config.warmup_steps(steps),
        "log_every": every(config.log_every, LOGS),
        "eval_every": every(config.eval_every, EVALUATIONS),
        "checkpoint_every": every(config.checkpoint_every, CHECKPOINTS),
        "config": config.to_dict(),
    }
