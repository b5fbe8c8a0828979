"""The training loop: gradients, clip, step, write down; stop and go on without a trace.

A run is a function of its plan and its data: the order of the data, the masks and the dropout
follow from seeds and the step's number, never from what happened before. So parameters, moments
and a few counters are all that a checkpoint holds, and a resumed run ends with the same bits.
"""

import math
import signal
import sys
import threading
import time
from contextlib import contextmanager, nullcontext

import numpy as np

from minidistil.io.limits import several
from minidistil.model.finite import NotFiniteError
from minidistil.model.label_counts import PLAIN
from minidistil.ops import Workspace, instructions
from minidistil.train import best, budget
from minidistil.train.bert_optimizers import BertAdam, Lamb
from minidistil.train.input_digests import inputs_of
from minidistil.train.optimizer import AdamW, clip
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


def run_loop(objective, data, config, *, run=None, evaluate=None, resume=False, progress=True):
    """Train objective.model in place; returns a summary.

    objective: `.model` with `.params` and `.update`, and `.gradients(batch, seed=, step=,
        first_sequence=)` -> (parts, grads), where parts["loss"] is what grads belong to.
        Optionally `.counts(batch, step=, width=)` -> {mean: what it is over}; several batches a
        step then count as one, and `gradients` and `diagnose` take `shares=`, see
        `minidistil.model.label_counts`. `.diagnose(batch, seed=, step=, first_sequence=)` -> str.
        `.begin(steps)`, called once the number of steps is settled. `.varying(step)` -> numbers
        to be written down beside the parts.
    data: `.batches(epoch)` -> list of index arrays, `.collate(indices, step=, first_sequence=)`
        -> batch; both pure. first_sequence is the micro-batch's place in its step.
    run: a Run or a folder. Without one nothing is written and Ctrl-C is not caught.
    evaluate: model -> dict of numbers; called before the first step, at intervals, at the end.
    resume: go on from the folder's newest checkpoint. The config must be the one it began with.

    The summary: step, steps, tokens, the last logged means, "evaluation", "interrupted" (after
    Ctrl-C: the step was finished and a checkpoint saved), "kept" (where config.patience or
    config.keep says so: which step, and why, see `minidistil.train.best`) and "time".
    Raises FloatingPointError when the loss or a gradient is no longer finite: the model and the
    checkpoints are those of the step before. Raises OSError when the disk refuses.
    """
    if run is not None and not isinstance(run, Run):
        run = Run(run, resume=resume)
    if best.wanted(config) and evaluate is None:
        raise ValueError("patience and keep='best' judge by evaluations: give evaluate, or neither")
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
    if run is not None:
        run.know(inputs_of(objective, data))
    if resume:
        began = TrainConfig.from_dict(run.plan["config"])  # with what an older version lacked
        _same_options(began.to_dict(), config.to_dict())
        plan = run.plan
    else:
        plan = budget.plan(config, budget.steps_for(objective, data, config, evaluate, progress))
    optimizer = {"adamw": AdamW, "bertadam": BertAdam, "lamb": Lamb}[config.optimizer](
        objective.model.params, config.lr, config.betas, config.eps, config.weight_decay,
        backend=config.backend,
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
    """One call of `run_loop`. `state` is what JSON keeps of it."""

    def __init__(self, objective, data, config, plan, optimizer, run, evaluate):
        self.objective, self.model = objective, objective.model
        self.config, self.plan = config, plan
        self.optimizer, self.run, self.evaluate = optimizer, run, evaluate
        self.feed, self.state = budget.Feed(data), _start()
        self.saved = None  # the step of the last checkpoint
        self.kept = {}  # the best parameters, where they are kept

    # --------------------------------------------------- one step after another

    def go(self, progress):
        """Step after step, to the plan's end or Ctrl-C  ->  the summary."""
        state, plan = self.state, self.plan
        bar = budget.bar(None, progress, total=plan["steps"], initial=state["step"], unit="step")
        with Workspace(), bar, _interruptible(self.run is not None) as interrupted:
            clock = time.perf_counter() - state["seconds"]
            if state["step"] == 0 and not state["evaluation"]:
                self.measure()
            while not self.done() and not interrupted:
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
        if not done:
            print(
                f"interrupted after step {state['step']} of {plan['steps']}; a checkpoint is "
                f"saved; {self.run.how_to_resume()}",
                file=sys.stderr,
            )
        elif self.run is not None:
            self.run.report(summary)
        return summary

    def done(self):
        """Whether every step is made, or patience at its end."""
        state = self.state
        return state["step"] >= self.plan["steps"] or best.over(state["best"], self.config)

    def due(self, name):
        """Whether it is time for what the plan does every so many steps, and at the end."""
        step = self.state["step"]
        return step % self.plan[name] == 0 or step == self.plan["steps"]

    def step(self):
        """One update; the state then counts it."""
        state, config, before = self.state, self.config, time.perf_counter()
        with np.errstate(all="ignore"):  # what is not finite is looked for just below
            parts, grads, tokens, batches = budget.step_gradients(
                self.objective, self.feed, config, state["step"]
            )
        norm = clip(grads, config.max_grad_norm or math.inf, config.backend)
        for name, value in (*parts.items(), ("gradient norm", norm)):
            if not math.isfinite(value):
                self.stop(name, value, batches)
        lr = self.lr()
        for name, new in self.optimizer.steps(grads, lr):
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
        """Name the op that the first bad number came from."""
        step, found = self.state["step"], ""
        if getattr(self.objective, "diagnose", None):
            reports = (
                self.objective.diagnose(batch, seed=self.config.seed, step=step, **place)
                for batch, place in budget.places(self.objective, batches, step)
            )
            found = next((f": {report}" for report in reports if report), "")
        raise FloatingPointError(
            f"{name} became {value} in step {step + 1} at learning rate {self.lr():.3g}{found}; "
            f"parameters and checkpoints are those before it; try a lower learning rate or a "
            f"longer warm-up"
        )

    # --------------------------------------------------- what is written down

    def log(self, bar):
        """The means since the last log; all but "time" is the same in every repetition."""
        state, window = self.state, self.state["window"]
        means = {name: value / window["steps"] for name, value in window["sums"].items()}
        speed = window["tokens"] / max(window["seconds"], 1e-9)
        here = {"step": state["step"], "epoch": state["epoch"], "tokens": state["tokens"]}
        state["last"] = means | {"lr": window["lr"]}
        bar.set_postfix(loss=f"{means['loss']:.4f}", tok_s=f"{speed:.0f}", refresh=False)
        self.write(here | state["last"], tokens_per_second=speed)
        state["window"] = _window()

    def measure(self):
        """Evaluate the model on what it is not trained on."""
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
        """Whether the model that was just evaluated is the best so far; its parameters are then
        kept, where the config says so."""
        state, config = self.state, self.config
        state["best"] = best.judged(state["best"], state["evaluation"], state["step"], config)
        if config.keep == "best" and state["best"]["step"] == state["step"]:
            self.kept = {name: np.array(x) for name, x in self.model.params.items()}

    def _evaluated(self):
        try:
            return dict(self.evaluate(self.model))
        except NotFiniteError as error:
            if self.state["step"] == 0:  # the weights that were given
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
        """A checkpoint of parameters, moments and state, where there is a run to keep it."""
        if self.run is None:
            return
        moments = self.optimizer.state()
        arrays = {
            f"{kind}/{name}": np.ascontiguousarray(array)
            for kind, group in (
                ("param", self.model.params), ("m", moments["m"]), ("v", moments["v"]),
                ("best", self.kept),
            )
            for name, array in group.items()
        }  # fmt: skip
        self.run.save(self.state["step"], arrays, self.state | {"t": moments["t"]})
        self.saved = self.state["step"]

    def restore(self):
        """Take up the newest checkpoint; without one the run starts over, at step 0."""
        loaded = self.run.load()
        if loaded is None:
            self.run.rewind(-1)
            return
        arrays, state = loaded
        groups = {"param": {}, "m": {}, "v": {}, "best": {}}
        for key, array in arrays.items():
            kind, name = key.split("/", 1)
            groups[kind][name] = array
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


@contextmanager
def _interruptible(wanted):
    """Yields a list that the first Ctrl-C fills; a second one interrupts at once."""
    interrupted = []
    if not wanted or threading.current_thread() is not threading.main_thread():
        yield interrupted
        return
    before = signal.getsignal(signal.SIGINT)

    def note(number, frame):
        interrupted.append(number)
        signal.signal(signal.SIGINT, before)
        print("\nfinishing this step; Ctrl-C again stops at once", file=sys.stderr)

    signal.signal(signal.SIGINT, note)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)
