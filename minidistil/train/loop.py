"""The training loop: gradients, clipping, an optimiser step, logs and checkpoints.

A run is a function of its plan and its data: the order of the data, the masks and the dropout
depend on seeds and the step's number only. A checkpoint therefore holds parameters, moments and a
few counters, and a resumed run ends with the same bits as an uninterrupted one.
"""

import math
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from minidistil.io.limits import several
from minidistil.io.ranks import world
from minidistil.model.finite import NotFiniteError
from minidistil.model.label_counts import PLAIN
from minidistil.ops import Workspace, instructions
from minidistil.train import best, budget, training_state
from minidistil.train.bert_optimizers import BertAdam, Lamb
from minidistil.train.input_digests import inputs_of, installation
from minidistil.train.interruption import interruptible
from minidistil.train.layer_rates import layer_rates
from minidistil.train.optimizer import AdamW, clip_factor, global_norm
from minidistil.train.run_folder import Run
from minidistil.train.schedule import SCHEDULES
from minidistil.train.train_config import TrainConfig
from minidistil.train.training_objectives import counting_of


def _window():
    return {"steps": 0, "tokens": 0, "seconds": 0.0, "lr": 0.0, "sums": {}}


def _start():
    return {
        "step": 0, "epoch": 0, "index": 0, "tokens": 0, "seconds": 0.0,
        "window": _window(), "last": {}, "evaluation": {}, "best": None,
    }  # fmt: skip


OPTIMISERS = {"adamw": AdamW, "bertadam": BertAdam, "lamb": Lamb}


def run_loop(
    objective, data, config: TrainConfig, *, run: Run | str | Path | None = None,
    evaluate: Callable | None = None, resume: bool = False, progress: bool | str = True,
) -> dict:  # fmt: skip
    """Train objective.model in place; returns a summary.

    objective: `.model` with `.params` and `.update`, and `.gradients(batch, seed=, step=,
        first_sequence=)` -> (parts, grads of parts["loss"]).
        Optionally `.counts(batch, step=, width=)` -> {mean: what it is over}; several batches a
        step then count as one, and `gradients` and `diagnose` take `shares=`, see
        `minidistil.model.label_counts`. `.diagnose(batch, seed=, step=, first_sequence=)` -> str.
        `.begin(steps)`, called once the number of steps is known. `.varying(step)` -> numbers
        that are logged beside the parts.
    data: `.batches(epoch)` -> list of index arrays, `.collate(indices, step=, first_sequence=)`
        -> batch; both pure. first_sequence: the number of sequences before it in the same step.
    run: a Run or a folder. Without one nothing is written and Ctrl-C is not caught.
    evaluate: model -> dict of numbers; called before the first step, at intervals, at the end.
    resume: continue from the folder's newest checkpoint. The config must be the run's own.
    progress: whether a terminal shows a progress bar; a str is its name.

    The summary: step, steps, tokens, the last logged means, "evaluation", "interrupted" (after
    Ctrl-C: the step was finished and a checkpoint saved), "kept" (with config.patience or
    config.keep "best": which step's parameters, and why, see `minidistil.train.best`) and "time".
    Raises FloatingPointError when the loss or a gradient is not finite: the model and the
    checkpoints are those of the step before. Raises OSError when a file cannot be written.
    """
    if run is not None and not isinstance(run, Run):
        run = Run(run, resume=resume)
    if best.wanted(config) and evaluate is None:
        raise ValueError("patience and keep='best' need evaluations: give evaluate, or neither")
    if (counting := counting_of(config)) != getattr(objective, "counting", PLAIN):
        raise ValueError(
            f"the config's class_weights and label_smoothing are not the objective's: "
            f"{counting.how()} against {getattr(objective, 'counting', PLAIN).how()}; make it with "
            f"counting_of(config)"
        )
    if resume and (run is None or not run.resumed):
        raise ValueError("resume needs the folder of a run: run=Run(folder, resume=True)")
    with nullcontext() if run is None else run.held():
        return _trained(objective, data, config, run, evaluate, progress)


def _trained(objective, data, config, run, evaluate, progress):
    """`run_loop` in a folder that is held."""
    resume = run is not None and run.resumed
    dtype = getattr(objective.model, "dtype", "float32")
    if run is not None or world().size > 1:
        inputs = inputs_of(objective, data)
        world().refuse_differences(inputs | installation(config.backend) | config.to_dict())
    if run is not None:
        run.know(inputs)
    if resume:
        began = TrainConfig.from_dict(run.plan["config"]).to_dict()  # new options have defaults
        began["dtype"] = run.plan.get("dtype", dtype)
        _same_options(began, config.to_dict() | {"dtype": dtype})
        plan = run.plan
    else:
        steps = budget.steps_for(objective, data, config, evaluate, progress)
        plan = budget.plan(config, steps) | {"dtype": dtype, "ranks": world().size}
    config = budget.whole_batch(config, plan.get("ranks", 1))
    optimizer = OPTIMISERS[config.optimizer](
        objective.model.params, config.lr, config.betas, config.eps, config.weight_decay,
        backend=config.backend, rates=layer_rates(objective.model, config),
    )  # fmt: skip
    if hasattr(objective, "begin"):
        objective.begin(plan["steps"])
    loop = Loop(objective, data, config, plan, optimizer, run, evaluate)
    if resume:
        loop.restore()
        return loop.go(progress)
    try:
        if run is not None:
            run.start(plan, instructions(config.backend))
        return loop.go(progress)
    except (ValueError, OSError):
        if run is not None and loop.saved is None:
            run.discard()
        raise


class Loop:
    """One call of `run_loop`. `state` is the part of a checkpoint that is stored as JSON."""

    def __init__(self, objective, data, config, plan, optimizer, run, evaluate):
        self.objective, self.model = objective, objective.model
        self.config, self.plan = config, plan
        self.optimizer, self.run, self.evaluate = optimizer, run, evaluate
        self.feed, self.state = budget.Feed(data), _start()
        self.saved = None  # the step of the last checkpoint
        self.kept = {}  # the best parameters, where they are kept

    # --------------------------------------------------- steps

    def go(self, progress):
        """All steps to the plan's end, or to Ctrl-C  ->  the summary."""
        state, plan = self.state, self.plan
        name = progress if isinstance(progress, str) else "training"
        bar = budget.bar(
            None, progress, desc=name, total=plan["steps"], initial=state["step"], unit=" steps"
        )
        with Workspace(), bar, interruptible(self.run is not None) as interrupted:
            clock = time.perf_counter() - state["seconds"]
            if state["step"] == 0 and not state["evaluation"]:
                self.measure()
            while not self.done() and not any(world().gather(bool(interrupted))):
                self.step()
                state["seconds"] = time.perf_counter() - clock
                if self.due("log_every"):
                    self.log(bar)
                if self.due("eval_every"):
                    self.measure()
                if self.due("checkpoint_every"):
                    self.save()
                bar.update()
            done = self.done()
            if state["step"] < plan["steps"] and self.saved != state["step"]:
                if done and state["window"]["steps"]:
                    self.log(bar)
                self.save()
        if done and self.kept and state["best"]["step"] != state["step"]:
            self.model.update(self.kept)
        summary = self.summary(interrupted=not done)
        world().wait()  # rank 0 has written all
        if not done and world().rank == 0:
            print(
                f"interrupted after step {state['step']} of {plan['steps']}; a checkpoint is "
                f"saved; {self.run.how_to_resume()}",
                file=sys.stderr,
            )
        elif done and self.run is not None:
            self.run.report(summary)
        return summary

    def done(self):
        """Whether all steps are done, or training stops early."""
        state = self.state
        return state["step"] >= self.plan["steps"] or best.over(state["best"], self.config)

    def due(self, name):
        """Whether the plan's interval `name` ends at this step; the last step ends all."""
        step = self.state["step"]
        return step % self.plan[name] == 0 or step == self.plan["steps"]

    def step(self):
        """One update of the parameters and of the state."""
        state, config, before = self.state, self.config, time.perf_counter()
        with np.errstate(all="ignore"):  # checked below
            parts, grads, tokens, batches = budget.step_gradients(
                self.objective, self.feed, config, state["step"], self.optimizer.frozen
            )
        norm = global_norm(grads.values(), config.backend)
        for name, value in (*parts.items(), ("gradient norm", norm)):
            if not math.isfinite(value):
                self.stop(name, value, batches)
        lr = self.lr()
        scale = clip_factor(norm, config.max_grad_norm or math.inf)
        for name, new in self.optimizer.steps(grads, lr, scale):
            self.model.update({name: new})
        state["step"] += 1
        state["epoch"], state["index"] = self.feed.epoch, self.feed.index
        state["tokens"] += tokens
        window = state["window"]
        for name, value in (*parts.items(), ("grad_norm", norm)):
            window["sums"][name] = window["sums"].get(name, 0.0) + value
        window["lr"] = lr
        window["steps"] += 1
        window["tokens"] += tokens
        window["seconds"] += time.perf_counter() - before

    def lr(self):
        """The learning rate of the next step."""
        plan = self.plan
        factor = SCHEDULES[self.config.schedule](
            self.state["step"], warmup=plan["warmup"], total=plan["steps"]
        )
        return self.config.lr * factor

    def stop(self, name, value, batches):
        """Raises FloatingPointError with the op that first gave a value that is not finite."""
        step, found = self.state["step"], ""
        if getattr(self.objective, "diagnose", None):
            mine, present = budget.places(self.objective, batches, step, self.config.accumulate)
            reports = (
                self.objective.diagnose(batch, seed=self.config.seed, step=step, **place)
                for (batch, place), there in zip(mine, world().share(present), strict=True)
                if there
            )
            found = next((f": {report}" for report in reports if report), "")
            found = next(filter(None, world().gather(found)), "")
        raise FloatingPointError(
            f"{name} became {value} in step {step + 1} at learning rate {self.lr():.3g}{found}; "
            f"parameters and checkpoints are those before it; try a lower learning rate or a "
            f"longer warm-up"
        )

    # --------------------------------------------------- logs and evaluations

    def log(self, bar):
        """Write the means since the last log; all but "time" is reproducible."""
        state, window = self.state, self.state["window"]
        means = {name: value / window["steps"] for name, value in window["sums"].items()}
        speed = window["tokens"] / max(window["seconds"], 1e-9)
        here = {"step": state["step"], "epoch": state["epoch"], "tokens": state["tokens"]}
        state["last"] = means | {"lr": window["lr"]}
        bar.set_postfix(loss=f"{means['loss']:.4f}", tok_s=f"{speed:.0f}", refresh=False)
        self.write(here | state["last"], tokens_per_second=speed)
        state["window"] = _window()

    def measure(self):
        """Evaluate the model, and log the result."""
        if self.evaluate is None:
            return
        before = time.perf_counter()
        self.state["evaluation"] = self._evaluated()
        if best.wanted(self.config):
            self.judge()
        here = {"step": self.state["step"], "tokens": self.state["tokens"]}
        self.write(
            here | {"evaluation": self.state["evaluation"]},
            evaluation_seconds=time.perf_counter() - before,
        )

    def judge(self):
        """Update the best evaluation so far, and keep a copy of its parameters if config.keep is
        "best"."""
        state, config = self.state, self.config
        state["best"] = best.judged(state["best"], state["evaluation"], state["step"], config)
        if config.keep == "best" and state["best"]["step"] == state["step"]:
            self.kept = {name: np.array(x) for name, x in self.model.params.items()}

    def _evaluated(self):
        try:
            return dict(self.evaluate(self.model))
        except NotFiniteError as error:
            if self.state["step"] == 0:  # the initial weights are not finite, not training
                raise
            raise FloatingPointError(
                f"the evaluation after step {self.state['step']} gives no number: {error.place}; "
                f"try a lower learning rate or a longer warm-up"
            ) from None

    def write(self, line, **times):
        if self.run is not None:
            self.run.log(line | {"time": {"seconds": self.state["seconds"]} | times})

    def summary(self, interrupted):
        state = self.state
        seconds, kept, evaluation = max(state["seconds"], 1e-9), {}, state["evaluation"]
        if state["best"] is not None:
            found = best.kept(state["best"], state["step"], self.plan["steps"], self.config)
            kept = {"kept": found}
            if self.kept and not interrupted:
                evaluation = state["best"]["evaluation"]
        return {
            "step": state["step"], "steps": self.plan["steps"], "tokens": state["tokens"],
            **state["last"], "evaluation": evaluation, "interrupted": interrupted, **kept,
            "time": {"seconds": seconds, "tokens_per_second": state["tokens"] / seconds},
        }  # fmt: skip

    # --------------------------------------------------- checkpoints

    def save(self):
        """Write a checkpoint of parameters, moments and state, if there is a run."""
        if self.run is None:
            return
        moments = self.optimizer.state()
        arrays = training_state.flat(
            param=self.model.params, m=moments["m"], v=moments["v"], best=self.kept
        )
        self.run.save(self.state["step"], arrays, self.state | {"t": moments["t"]})
        self.saved = self.state["step"]

    def restore(self):
        """Load the newest checkpoint; without one the run starts again at step 0."""
        loaded = self.run.load()
        if loaded is None:
            self.run.rewind(-1)
            return
        arrays, state = loaded
        groups = training_state.grouped(arrays)
        self.optimizer.load({"t": state["t"], "m": groups["m"], "v": groups["v"]})
        self.model.update(groups["param"])
        self.kept = groups["best"]
        self.state = {name: state.get(name, value) for name, value in _start().items()}
        self.feed = budget.Feed(self.feed.data, state["epoch"], state["index"])
        self.run.rewind(state["step"])


def _same_options(began, now):
    changed = [f"{name} {began.get(name)!r}, now {now[name]!r}" for name in now
               if began.get(name) != now[name]]  # fmt: skip
    if changed:
        raise ValueError(
            f"a resumed run keeps the options it began with: {several(changed, '; ', 200)}; leave "
            f"them out, or start a new run elsewhere"
        )
