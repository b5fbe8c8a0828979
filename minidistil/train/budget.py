"""Conversion of a budget in tokens, epochs or minutes to steps, and the gradients of one step.

The schedule needs the number of steps, and a resumed run ends where the uninterrupted one would.
So the number is computed once, before the first step, and stored: a run of `minutes` that comes to
812 steps has the same bits as a run of 812 steps.
"""

import math
import sys
import time

from tqdm import tqdm

from minidistil.model.label_counts import shares_of
from minidistil.ops import place_of
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


def step_gradients(objective, feed: Feed, config: TrainConfig, step: int) -> tuple:
    """One step's gradients: parts and grads of all its micro-batches, as one batch would give them.

    Without `counts` of the objective, its micro-batches' means are averaged. Returns parts, grads,
    tokens (without padding) and batches [(batch, first_sequence)].
    """
    batches, tokens, first = [], 0, 0
    for _ in range(config.accumulate):
        batch = feed.data.collate(feed.next(), step=step, first_sequence=first)
        batches.append((batch, first))
        tokens += int(batch["attention_mask"].sum())
        first += len(batch["attention_mask"])
    share = 1 if hasattr(objective, "counts") else 1 / len(batches)
    sums, grads = {}, {}
    for batch, place in places(objective, batches, step):
        parts, new = objective.gradients(batch, seed=config.seed, step=step, **place)
        for name, part in parts.items():
            sums[name] = sums.get(name, 0.0) + float(part) * share
        for name, g in new.items():
            if name in grads:
                place_of(config.backend).accumulate(grads[name], g)
            else:
                grads[name] = g
    if share != 1:
        grads = dict(scaled(grads, share, config.backend))
    if hasattr(objective, "varying"):
        sums |= objective.varying(step)
    return sums, grads, tokens, batches


def places(objective, batches: list, step: int) -> list:
    """[(batch, first_sequence)]  ->  [(batch, {"first_sequence", "shares"} for `gradients`)].

    With several micro-batches and an objective with `counts`, each has its shares of the whole
    batch's means; one without any share is left out.
    """
    found = [(batch, {"first_sequence": first}) for batch, first in batches]
    if len(batches) == 1 or not hasattr(objective, "counts"):
        return found
    width = max(batch["attention_mask"].shape[-1] for batch, _ in batches)
    counted = [
        (objective.counts(batch, step=step), objective.counts(batch, step=step, width=width))
        for batch, _ in batches
    ]
    for (_, place), shares in zip(found, shares_of(counted), strict=True):
        place["shares"] = shares
    return [one for one in found if any(one[1]["shares"].values())] or found


def steps_for(objective, data, config: TrainConfig, evaluate=None, progress: bool = False) -> int:
    """The number of steps of config's budget, at least one; approximate for tokens and minutes."""
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
    feed, optimizer, times = Feed(data), AdamW(objective.model.params, backend=config.backend), []
    if evaluate is not None:
        evaluate(objective.model)
    start = time.perf_counter()
    for step in bar(range(WARM + TIMED), progress, desc="timing a step", leave=False):
        before = time.perf_counter()
        if step == WARM:
            start = before
        _, grads, _, _ = step_gradients(objective, feed, config, step)
        norm = global_norm(grads.values(), config.backend)
        optimizer.step(grads, scale=clip_factor(norm, config.max_grad_norm or math.inf))
        times.append(time.perf_counter() - before)
        if step >= WARM and time.perf_counter() - start > SHARE * seconds:
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
    return max(1, int(left / a_step))


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
