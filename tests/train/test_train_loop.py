"""The loop: what stops it, what it writes, and that going on leaves no trace."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from train_toy import ToyData, ToyObjective, config, evaluate

from minidistil.train import budget, training_state
from minidistil.train.loop import run_loop
from minidistil.train.run_folder import Run
from minidistil.train.train_config import TrainConfig

ROOT = Path(__file__).resolve().parents[2]


def run_toy(folder=None, objective=None, resume=False, **changes):
    objective = objective or ToyObjective()
    run = folder and Run(folder, command="toy", resume=resume)
    summary = run_loop(objective, ToyData(), config(**changes), run=run, evaluate=evaluate)
    return objective.model.params, summary


def without_time(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "time"} for line in lines]


def assert_same_run(mine, expected):
    """Folders of two runs: the same lines, and the same bits in the last two checkpoints."""
    assert without_time(mine) == without_time(expected)
    assert (mine / "run.json").read_bytes() == (expected / "run.json").read_bytes()
    for step in ("step-00000035", "step-00000040"):
        pairs = [training_state.load(f / "checkpoints" / step) for f in (mine, expected)]
        (arrays, state), (others, other) = pairs
        assert arrays.keys() == others.keys()
        assert all(np.array_equal(arrays[name], others[name]) for name in others)
        for record in (state, other):
            record.pop("seconds")
            record["window"].pop("seconds")
        assert state == other


@pytest.fixture(autouse=True)
def ctrl_c():
    """Ctrl-C raises KeyboardInterrupt, also where the tests were started in the background, which
    makes a shell ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    params, summary = run_toy(folder)
    return folder, params, summary


def test_a_run_learns_and_writes_down_what_happened(uninterrupted):
    folder, _, summary = uninterrupted
    lines = without_time(folder)
    logs = [line for line in lines if "loss" in line]
    assert [line["step"] for line in logs] == [*range(3, 40, 3), 40]
    assert [line["step"] for line in lines if "evaluation" in line] == [0, 10, 20, 30, 40]
    assert logs[-1]["loss"] < 0.6 * logs[0]["loss"]
    assert logs[0].keys() == {"step", "epoch", "tokens", "loss", "mlm", "grad_norm", "lr"}
    assert summary["step"] == summary["steps"] == 40 and not summary["interrupted"]
    assert summary["tokens"] == logs[-1]["tokens"]
    report = json.loads((folder / "report.json").read_text())
    assert report["evaluation"] == summary["evaluation"] == lines[-1]["evaluation"]
    names = sorted(p.name for p in (folder / "checkpoints").iterdir())
    assert names == ["step-00000035", "step-00000040"]


def test_the_run_folder_changes_no_bit(uninterrupted):
    _, params, _ = uninterrupted
    mine, _ = run_toy()
    assert all(np.array_equal(mine[name], params[name]) for name in params)


def test_the_first_steps_are_those_of_a_hand_written_loop():
    """Two micro-batches a step, mean of the gradients, clip, decay, warm-up: spelt out."""
    mine, _ = run_toy(steps=3, warmup=2, weight_decay=0.1, max_grad_norm=0.7)
    objective, data = ToyObjective(), ToyData()
    p = {name: a.astype(np.float64) for name, a in objective.model.params.items()}
    m = {name: np.zeros_like(a) for name, a in p.items()}
    v = {name: np.zeros_like(a) for name, a in p.items()}
    batches = data.batches(0)
    for step, factor in enumerate((0.0, 0.5, 1.0)):
        both = []
        for micro in (0, 1):
            indices = batches[2 * step + micro]
            batch = data.collate(indices, step=step, first_sequence=4 * micro)
            both.append(objective.gradients(batch, seed=0, step=step, first_sequence=4 * micro)[1])
        g = {name: (both[0][name] + both[1][name]) / 2 for name in p}
        norm = np.sqrt(sum((a.astype(np.float64) ** 2).sum() for a in g.values()))
        for name in p:
            a = g[name] * min(1, 0.7 / (norm + 1e-6))
            m[name] = 0.9 * m[name] + 0.1 * a
            v[name] = 0.999 * v[name] + 0.001 * a * a
            mhat, vhat = m[name] / (1 - 0.9 ** (step + 1)), v[name] / (1 - 0.999 ** (step + 1))
            decay = 0.1 if name == "dense.weight" else 0.0
            p[name] -= 0.01 * factor * (mhat / (np.sqrt(vhat) + 1e-6) + decay * p[name])
        objective.model.update({name: a.astype(np.float32) for name, a in p.items()})
    for name in p:
        np.testing.assert_allclose(mine[name], p[name], rtol=2e-6, atol=1e-7)


def test_a_step_averages_its_micro_batches():
    objective, data = ToyObjective(), ToyData()
    parts, grads, tokens, batches = budget.step_gradients(
        objective, budget.Feed(data), config(accumulate=3), step=2
    )
    alone = [objective.gradients(b, seed=0, step=2, first_sequence=f) for b, f in batches]
    assert parts["loss"] == pytest.approx(np.mean([part["loss"] for part, _ in alone]))
    for name, grad in grads.items():
        expected = np.mean([g[name] for _, g in alone], axis=0)
        np.testing.assert_allclose(grad, expected, rtol=1e-5, atol=1e-7)
    assert tokens == sum(int(b["attention_mask"].sum()) for b, _ in batches)


def test_each_micro_batch_has_its_own_place_in_the_step():
    objective = ToyObjective()
    run_toy(objective=objective, steps=4, accumulate=3)
    # 23 sequences in batches of 4: the sixth of an epoch holds 3.
    firsts = [(0, 4, 8), (0, 4, 8), (0, 4, 8), (0, 4, 8)]
    assert objective.calls == [(s, f) for s, group in enumerate(firsts) for f in group]


@pytest.mark.parametrize("crash_at", [2, 5, 23, 39])
def test_a_crash_and_a_resume_leave_no_trace(tmp_path, uninterrupted, crash_at):
    class Crashing(ToyObjective):
        def gradients(self, batch, *, step, **place):
            if step == crash_at:
                raise RuntimeError("power cut")
            return super().gradients(batch, step=step, **place)

    with pytest.raises(RuntimeError, match="power cut"):
        run_toy(tmp_path / "run", Crashing())
    params, _ = run_toy(tmp_path / "run", resume=True)
    assert all(np.array_equal(params[name], uninterrupted[1][name]) for name in params)
    assert_same_run(tmp_path / "run", uninterrupted[0])


def test_resuming_a_finished_run_does_nothing(tmp_path):
    first, summary = run_toy(tmp_path / "run", steps=7)
    before = without_time(tmp_path / "run")
    objective = ToyObjective()
    params, again = run_toy(tmp_path / "run", objective, resume=True, steps=7)
    assert not objective.calls and without_time(tmp_path / "run") == before
    assert all(np.array_equal(params[name], first[name]) for name in first)
    summary.pop("time"), again.pop("time")
    assert again == summary


def test_ctrl_c_finishes_the_step_saves_and_says_how_to_go_on(tmp_path, uninterrupted, capsys):
    class Impatient(ToyObjective):
        def gradients(self, batch, *, step, **place):
            if step == 17 and not any(s == 17 for s, _ in self.calls):
                signal.raise_signal(signal.SIGINT)
            return super().gradients(batch, step=step, **place)

    folder, handler = tmp_path / "run", signal.getsignal(signal.SIGINT)
    _, summary = run_toy(folder, Impatient())
    assert summary["interrupted"] and summary["step"] == 18
    assert signal.getsignal(signal.SIGINT) is handler
    assert not (folder / "report.json").exists()
    assert training_state.latest(folder).name == "step-00000018"
    said = capsys.readouterr()
    assert f"interrupted after step 18 of 40; a checkpoint is saved; resume with: toy --out " \
           f"{folder} --resume" in said.err  # fmt: skip
    assert not said.out
    run_toy(folder, resume=True)
    assert_same_run(folder, uninterrupted[0])


def test_ctrl_c_before_the_first_step_leaves_no_trace_either(tmp_path, uninterrupted):
    def impatient(model):
        signal.raise_signal(signal.SIGINT)
        return evaluate(model)

    run = Run(tmp_path / "run", command="toy")
    summary = run_loop(ToyObjective(), ToyData(), config(), run=run, evaluate=impatient)
    assert summary["interrupted"] and summary["step"] == 0
    run_toy(tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "run", uninterrupted[0])


def test_a_second_ctrl_c_stops_at_once_and_without_a_folder_so_does_the_first(tmp_path):
    class VeryImpatient(ToyObjective):
        def gradients(self, batch, **place):
            signal.raise_signal(signal.SIGINT)
            return super().gradients(batch, **place)

    for folder in (tmp_path / "run", None):
        with pytest.raises(KeyboardInterrupt):
            run_toy(folder, VeryImpatient())


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_op(tmp_path):
    folder, objective = tmp_path / "run", ToyObjective(bad_step=12)
    with pytest.raises(FloatingPointError) as caught:
        run_toy(folder, objective)
    assert "loss became nan in step 13 at learning rate 0.00737: layer 0: softmax gave NaN; " \
           "parameters and checkpoints are those before it; try" in str(caught.value)  # fmt: skip
    arrays, _ = training_state.load(training_state.latest(folder))
    assert training_state.latest(folder).name == "step-00000010"
    assert all(np.isfinite(array).all() for array in arrays.values())
    assert all(np.isfinite(p).all() for p in objective.model.params.values())


def test_a_gradient_that_is_not_finite_stops_the_run_too():
    class Exploding(ToyObjective):
        diagnose = None

        def gradients(self, batch, **place):
            parts, grads = super().gradients(batch, **place)
            grads["dense.bias"][0] = np.inf
            return parts, grads

    with pytest.raises(FloatingPointError, match="gradient norm became inf in step 1 at learning"):
        run_toy(objective=Exploding())


def test_bad_data_in_the_first_step_leaves_no_folder(tmp_path):
    class Refusing(ToyObjective):
        def gradients(self, batch, **place):
            raise ValueError("id 99 is outside the vocabulary of 50")

    with pytest.raises(ValueError, match="id 99"):
        run_toy(tmp_path / "run", Refusing())
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="gives no batch in epoch 0"):
        run_loop(ToyObjective(), ToyData(count=0), config(), run=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_full_disk_at_the_first_checkpoint_leaves_no_folder(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.numpy.save_file", full)
    with pytest.raises(OSError, match=r"cannot write .*step-00000005: No space left on device; "):
        run_toy(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_resumed_run_keeps_its_options(tmp_path):
    run_toy(tmp_path / "run", steps=3)
    with pytest.raises(ValueError, match=r"began with: lr 0\.01, now 0\.02; leave them out"):
        run_toy(tmp_path / "run", resume=True, steps=3, lr=0.02)
    with pytest.raises(ValueError, match="resume needs the folder of a run"):
        run_loop(ToyObjective(), ToyData(), config(), resume=True)


def test_minutes_become_steps_once(tmp_path, monkeypatch):
    options = {"steps": None, "minutes": 0.01, "checkpoint_every": 2}

    class Crashing(ToyObjective):
        def gradients(self, batch, *, step, **place):
            if step == 0 and (tmp_path / "run" / "run.json").exists():
                raise RuntimeError("power cut")
            return super().gradients(batch, step=step, **place)

    with pytest.raises(RuntimeError, match="power cut"):
        run_toy(tmp_path / "run", Crashing(pause=0.005), **options)
    steps = json.loads((tmp_path / "run" / "run.json").read_text())["plan"]["steps"]
    assert 1 <= steps < 120  # 0.6 seconds, ten milliseconds a step or more on a busy machine

    def never(*args):
        raise AssertionError("the budget was measured again")

    monkeypatch.setattr(budget, "steps_for", never)
    params, summary = run_toy(tmp_path / "run", resume=True, **options)
    assert summary["step"] == steps
    monkeypatch.undo()
    same, _ = run_toy(steps=steps)
    assert all(np.array_equal(params[name], same[name]) for name in same)


def test_minutes_leave_time_for_evaluations(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(budget.time, "perf_counter", lambda: clock[0])

    class Ticking(ToyObjective):
        def gradients(self, batch, **place):
            clock[0] += 0.5
            return super().gradients(batch, **place)

    def slow(model):
        clock[0] += 10
        return {}

    # 600 s, less 8 timed steps and an evaluation, less the evaluation before the first step. What
    # came before, 2 steps and an evaluation that compile kernels, costs none of them.
    left = 600 - 8 - 10 - 10
    open_ended = replace(config(), steps=None, minutes=10, eval_every=None)
    assert budget.steps_for(Ticking(), ToyData(), open_ended, slow) == left - 100
    clock[0] = 0.0
    often = replace(open_ended, eval_every=10)
    assert budget.steps_for(Ticking(), ToyData(), often, slow) == left // 2


def test_tokens_and_epochs_become_steps():
    data = ToyData()
    epochs = TrainConfig(epochs=3, accumulate=2)
    assert budget.steps_for(ToyObjective(), data, epochs) == 9  # 6 batches an epoch
    _, summary = run_toy(steps=None, tokens=2000)
    assert abs(summary["tokens"] - 2000) < 100


# ------------------------------------------------------- real processes, really killed


def start(folder):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    script = Path(__file__).parent.with_name("train_toy.py")
    process = subprocess.Popen(
        [sys.executable, str(script), str(folder), "0.015"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    assert process.stdout.readline().startswith("ready")
    return process


def test_killed_at_random_moments_a_run_still_ends_with_the_same_bits(tmp_path, uninterrupted):
    folder, moments = tmp_path / "run", random.Random(5)
    for _ in range(4):
        process = start(folder)
        time.sleep(moments.uniform(0.05, 0.5))
        process.kill()
        process.communicate()
    process = start(folder)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    with np.load(folder / "final.npz") as final:
        assert all(np.array_equal(final[name], uninterrupted[1][name]) for name in final)
    run = json.loads((folder / "run.json").read_text())
    assert run["plan"]["steps"] == 40
    assert without_time(folder) == without_time(uninterrupted[0])


def test_ctrl_c_in_a_process_ends_with_a_checkpoint(tmp_path):
    process = start(tmp_path / "run")
    metrics = tmp_path / "run" / "metrics.jsonl"
    while not metrics.exists() or metrics.read_text().count("loss") < 1:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert "finishing this step" in errors and "resume with: toy --out" in errors
    assert "Traceback" not in errors
    assert training_state.latest(tmp_path / "run") is not None
