"""`check --against-trace`: values under any names and in usual layouts, and files that are bad."""

import re

import numpy as np
import pytest
from safetensors.numpy import save_file
from small import ALBERT, CONFIG, ROBERTA, saved
from small import CASES as FAMILIES
from test_trace import BERT

import minidistil as md
from minidistil.check.align import DOUBLE, SINGLE, Reference
from minidistil.check.families.family import program_of
from minidistil.check.reference_batch import example, load
from minidistil.check.trace_values import trace
from minidistil.cli import main

CASES = {
    "distilbert": (CONFIG, "fill-mask"), "bert": (BERT, "fill-mask"),
    "classifier": (BERT, "text-classification"), "body": (CONFIG, "feature-extraction"),
    "tokens": (BERT, "token-classification"), "answers": (CONFIG, "question-answering"),
    "choices": (BERT, "multiple-choice"), "roberta": (ROBERTA, "text-classification"),
    "albert": (ALBERT, "fill-mask"), **FAMILIES,
}  # fmt: skip


class World:
    """A folder with a model, and everything that `trace` computes on its batch."""

    def __init__(self, config, task, home):
        self.folder = saved(md.from_config(config, task=task), home / "model")
        self.model, self.home = load(self.folder), home
        self.batch = program_of(self.model).example(self.model, self.folder)
        self.all = trace(self.model, self.batch)
        self.H = program_of(self.model)(self.model, self.batch).frame.H

    def values(self):
        return {n.removeprefix("value."): x for n, x in self.all.items() if n.startswith("value.")}

    def grads(self):
        of = "parameter_gradient."
        return {n.removeprefix(of): x for n, x in self.all.items() if n.startswith(of)}

    def written(self, arrays, name="theirs.safetensors"):
        path = self.home / name
        if path.suffix == ".npz":
            np.savez(path, **arrays)
        else:
            save_file({n: np.ascontiguousarray(x) for n, x in arrays.items()}, path)
        return path

    def report(self, arrays, **options):
        return md.check.compare_trace(self.written(arrays), self.folder, **options)

    def refused(self, path, capsys, *options):
        argv = ["check", "--model", str(self.folder), "--against-trace", str(path), *options]
        assert main(argv) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.startswith("error: ") and err.count("\n") == 1 and len(err) < 500
        return err


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(CONFIG, "fill-mask", tmp_path_factory.mktemp("world"))


@pytest.mark.parametrize("case", CASES)
def test_a_trace_agrees_with_itself(case, tmp_path):
    """Every value and gradient of `trace`, of each task: all are compared, and agree."""
    world = World(*CASES[case], tmp_path)
    report = world.report(world.all)
    assert (report.verdict, report.code) == ("agree", 0), report.text()
    assert not [entry for entry in report.unmatched if "unwritten" in entry or "unpaired" in entry]
    rows = {row.name for row in report.rows}
    assert {f"grad.{name}" for name in world.model.params} <= rows
    assert {n for n, x in world.all.items() if n.startswith("gradient.") and x.any()} <= rows
    assert {*world.values()} <= rows


# ------------------------------------------------------------------- names and layouts


def layouts(x, mask, H, rng):
    """One of the usual layouts of a quantity (B,T,·) or (B,H,T,T)."""
    if x.ndim == 4:
        return [x, x.swapaxes(0, 1), x.transpose(0, 2, 1, 3), x.transpose(0, 2, 3, 1),
                x.reshape(-1, *x.shape[2:])][rng.integers(5)]  # fmt: skip
    if x.ndim != 3:
        return x
    B, T, W = x.shape
    options = [x, x.swapaxes(0, 1), x.swapaxes(1, 2), x.reshape(-1, W), x[mask]]
    if W % H == 0 and W > H:
        heads = x.reshape(B, T, H, -1)
        options += [heads, heads.swapaxes(1, 2), heads.transpose(2, 0, 1, 3)]
    return options[rng.integers(len(options))]


def turned(g, H, rng):
    """One of the usual layouts of a parameter's gradient."""
    if g.ndim == 1:
        return g.reshape(1, -1) if rng.random() < 0.3 else g
    options = [g, g.T]
    if g.shape[0] == g.shape[1]:  # inputs, heads, channels of a head
        options.append(g.T.reshape(len(g), H, -1))
    return options[rng.integers(len(options))]


def disguised(world, seed):
    """A random part of the trace under names that say nothing, in random layouts."""
    rng = np.random.default_rng(seed)
    mask = world.batch["attention_mask"] == 1
    arrays = {}
    for name, x in world.all.items():
        kind = name.split(".")[0]
        if kind in ("input", "loss") or (rng.random() < 0.5 and name != "value.logits"):
            continue
        number, H = len(arrays), world.H
        if kind == "parameter_gradient":
            arrays[f"grad_{number}"] = turned(x, H, rng)
        else:
            x = layouts(x, mask, H, rng)
            arrays[f"x{number}" if kind == "value" else f"grad_{number}"] = x
    order = rng.permutation(len(arrays))
    return {name: arrays[name] for name in np.array(list(arrays))[order]}


@pytest.mark.parametrize("seed", range(12))
def test_names_and_layouts_do_not_matter(seed, world):
    report = world.report(disguised(world, seed))
    assert (report.verdict, report.code) == ("agree", 0), report.text()
    assert not [entry for entry in report.unmatched if entry.startswith(("unknown", "unpaired"))]


@pytest.mark.parametrize("seed", range(6))
def test_a_wrong_array_is_found_under_any_name(seed, world):
    arrays, rng = disguised(world, seed), np.random.default_rng(seed)
    gradients = [n for n, x in arrays.items() if n.startswith("grad_") and np.abs(x).max() > 1e-4]
    wrong = gradients[rng.integers(len(gradients))]
    arrays[wrong] = arrays[wrong] * rng.choice([-1, 0.5, 1.01])
    report = world.report(arrays)
    assert (report.verdict, report.code) == ("differ", 1)
    assert report.where.removeprefix("parameter ") == wrong


def test_arrays_that_are_fused_or_stacked(world):
    """q, k and v in one array, and the gradients of all layers in one."""
    values, grads = world.values(), world.model.names
    fused = np.concatenate([values[f"layer.0.{z}"] for z in "qkv"], axis=2)
    grad = {c: world.all[f"parameter_gradient.{n}"] for c, n in grads.items()}
    arrays = {
        "out": values["logits"], "qkv": fused,
        "grad.qkv": np.concatenate([grad[f"layer.0.{z}.weight"].T for z in "qkv"], axis=1),
        "grad.lin1": np.stack([grad[f"layer.{i}.lin1.weight"].T for i in range(2)]),
    }  # fmt: skip
    report = world.report(arrays)
    assert report.verdict == "agree"
    rows = {row.name for row in report.rows}
    assert {f"layer.0.{z}" for z in "qkv"} <= rows
    for role in ("layer.0.q.weight", "layer.0.v.weight", "layer.1.lin1.weight"):
        assert f"grad.{grads[role]}" in rows


def test_float64_is_compared_sharply(world):
    """An error that float32 could hide is seen in float64 values."""
    reference = Reference(world.model, world.batch)
    logits, rng = reference.values["logits"], np.random.default_rng(0)
    error = np.mean([reference.tolerance("logits", kind) for kind in (SINGLE, DOUBLE)])
    wrong = logits * (1 + error * rng.normal(size=logits.shape))
    assert world.report({"logits": logits}).verdict == "agree"
    assert world.report({"logits": wrong.astype(np.float32)}).verdict == "agree"
    assert world.report({"logits": wrong}).verdict == "differ"


def test_npz_files_and_names_of_the_checkpoint(world):
    grads = {f"{n}.grad": world.all[f"parameter_gradient.{n}"] for n in world.model.params}
    path = world.written(grads | {"logits": world.all["value.logits"]}, "theirs.npz")
    report = md.check.compare_trace(path, world.folder)
    assert report.verdict == "agree"
    assert sum(row.kind == "gradient" for row in report.rows) == len(grads)


def test_an_output_alone(world):
    logits = world.all["value.logits"]
    assert world.report({"whatever": logits}).verdict == "agree"
    report = world.report({"logits": logits / 2})
    assert (report.first_difference, report.diagnosis[0].id) == (
        "returned.logits", "constant-factor",
    )  # fmt: skip


def test_a_swap_of_two_named_gradients_is_found(world):
    """A name that says which gradient it is, is believed."""
    a, b = (world.model.names[f"layer.{i}.q.weight"] for i in range(2))
    arrays = {
        "logits": world.all["value.logits"], f"grad.{a}": world.all[f"parameter_gradient.{b}"],
        f"grad.{b}": world.all[f"parameter_gradient.{a}"],
    }  # fmt: skip
    report = world.report(arrays)
    assert report.verdict == "differ" and report.first_difference.startswith("grad.")


def test_a_wrong_loss_is_a_difference(world):
    arrays = {"logits": world.all["value.logits"], "loss": world.all["loss"] * 2}
    report = world.report(arrays)
    assert (report.verdict, report.first_difference) == ("differ", "loss")


@pytest.mark.parametrize(("case", "factor", "says"), [
    ("distilbert", -1, "the loss is negated"),
    ("body", 2, "the loss is 2 × half the sum of squares of the last hidden states"),
])  # fmt: skip
def test_a_factor_of_the_loss_in_words(case, factor, says, tmp_path):
    world, factor = World(*CASES[case], tmp_path), np.float32(factor)
    report = world.report({n: x * factor if "gradient" in n else x for n, x in world.all.items()})
    assert [d.id for d in report.diagnosis] == ["loss-scaled"], report.text()
    assert says in report.text()


def test_what_is_not_compared_is_said(world):
    arrays = {"logits": world.all["value.logits"], "more": np.ones((3, 5), np.float32)}
    text = world.report(arrays).text()
    assert "unknown more" in text and "gradients: the file holds none" in text
    one = world.model.names["layer.0.q.weight"]
    report = world.report(arrays | {f"{one}.grad": world.all[f"parameter_gradient.{one}"]})
    missing = len(world.model.params) - 1
    assert report.code == 0 and f"{missing} gradients that are not written" in report.text()


def test_a_wrong_array_before_right_ones_is_a_difference(world):
    """Written scaled under the name of a quantity; under another name it may be any array."""
    values = world.values()
    wrong = values["layer.0.q"] / 2
    report = world.report(values | {"layer.0.q": wrong})
    assert (report.verdict, report.first_difference, report.where) == (
        "differ", "layer.0.q", "layer.0.q",
    )  # fmt: skip
    assert next(row.error for row in report.rows if row.name == "layer.0.q") == pytest.approx(0.5)
    assert not [entry for entry in report.unmatched if entry.endswith("layer.0.q")]
    right = values.pop("layer.0.q")
    for others, name in (({}, "scaled"), ({"raw": right}, "layer.0.q")):
        report = world.report(values | others | {name: wrong})
        assert report.verdict == "agree" and f"unknown {name}" in report.unmatched


def test_a_difference_is_told_in_words_for_files(world):
    """No row is listed as not compared; no word speaks of a module."""
    values, rng = world.values(), np.random.default_rng(0)
    names = list(values)
    for name in names[names.index("layer.1.output") :]:
        values[name] = values[name] * (1 + 0.1 * rng.normal(size=values[name].shape))
    del values["layer.1.lin1"]
    report = world.report(values | {f"grad.{n}": x for n, x in world.grads().items()})
    rows, text = {row.name for row in report.rows}, report.text()
    left = [entry.split(" ", 1)[1] for entry in report.unmatched if entry.startswith("quantity")]
    assert report.code == 1 and left == ["layer.1.lin1"] and "layer.1.output" in rows
    assert "the gradients, as" not in text and "module" not in text
    assert next(row.where for row in report.rows if row.name == "returned.logits") == "logits"


def test_one_of_each_is_in_the_singular(world):
    logits = world.all["value.logits"]
    text = world.report({"logits": logits}).text()
    assert "agree: 2 quantities" in text  # inside, and as the output
    one = world.model.names["layer.0.q.weight"]
    wrong = world.all[f"parameter_gradient.{one}"] * np.float32(1.1)
    report = world.report({"logits": logits, f"grad.{one}": wrong})
    assert "; 1 of 1 gradient differs, the nearest" in report.evidence
    assert [d.id for d in report.diagnosis] == ["gradient-factor"]
    near = world.all[f"parameter_gradient.{one}"] * np.float32(1.00005)
    report = world.report({"logits": logits, f"grad.{one}": near})
    assert report.verdict == "differ" and report.diagnosis == []  # 1.0000 × is no mistake


# ------------------------------------------------------------------- the batch


def test_the_batch_of_the_file_or_of_the_options(world, tmp_path, capsys):
    """--inputs, or the file's own inputs, or the random batch of the seed."""
    inputs = tmp_path / "inputs.safetensors"
    argv = ["trace", str(world.folder), "--inputs-only", "--seed", "5", "--out", str(inputs)]
    assert main(argv) == 0
    batch = example(world.model, world.folder, seed=5)
    logits = trace(world.model, batch)["value.logits"]
    assert world.report({"logits": logits}, seed=5).verdict == "agree"
    assert world.report({"logits": logits}, inputs=inputs).verdict == "agree"
    assert world.report({"logits": logits, **batch}).verdict == "agree"
    assert world.report({"logits": logits}).verdict == "differ"
    capsys.readouterr()
    other = world.written({f"input.{n}": x for n, x in world.batch.items()}, "other.safetensors")
    path = world.written({"logits": logits, **batch})
    err = world.refused(path, capsys, "--inputs", str(other))
    assert "another batch: its input_ids" in err


# ------------------------------------------------------------------- bad files

BAD = {
    "no output": (lambda v: {"h": v["layer.1.output"]}, "holds no logits"),
    "other sizes": (lambda v: {"logits": v["logits"][:, :3]}, "no array has the sizes"),
    "other outputs": (lambda v: {"logits": v["logits"][:, :, :4], "h": v["layer.1.output"]},
                      r"no logits \(\d+, \d+, 40\), but logits \(\d+, \d+, 4\)"),
    "not finite": (lambda v: {"logits": v["logits"] * np.nan}, "NaN or infinity at real tokens"),
    "half precision": (lambda v: {"logits": v["logits"].astype(np.float16)}, "half precision"),
    "integers": (lambda v: {"logits": v["logits"].astype(np.int32)}, "no array has the sizes"),
    "nothing": (lambda v: {}, "holds no array"),
    "ids alone": (lambda v: {"input_ids": np.ones((3, 11), np.int64)}, "another batch"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["safetensors", "npz"])
@pytest.mark.parametrize("bad", BAD)
def test_a_bad_file_is_refused_in_one_line(bad, kind, world, capsys):
    made, words = BAD[bad]
    path = world.written(made(world.values()), f"bad.{kind}")
    code = main(["check", "--model", str(world.folder), "--against-trace", str(path)])
    out, err = capsys.readouterr()
    lines = [line for line in (out + err).splitlines() if "cannot compare" in line]
    assert code == 2 and len(lines) == 1
    assert re.search(words, lines[0])


def test_nan_inside_is_a_difference(world):
    arrays = world.values()
    arrays["layer.0.probs"] = arrays["layer.0.probs"] * np.nan
    report = world.report(arrays)
    assert (report.verdict, report.where) == ("differ", "layer.0.probs")
    assert "NaN or infinity at real tokens in layer.0.probs" in report.evidence


def test_nan_at_the_padding_is_none(world):
    arrays = {name: x.copy() for name, x in world.values().items()}
    padding = world.batch["attention_mask"] == 0
    for x in arrays.values():
        if x.ndim == 3:
            x[padding] = np.nan
    assert world.report(arrays).verdict == "agree"


def test_options_that_exclude_each_other(world, capsys):
    path = str(world.written(world.values()))
    for options, words in (
        (["--against", "a.py:f"], "two implementations"),
        (["--inputs", path, "--text", "a"], "two batches"),
    ):
        assert words in world.refused(path, capsys, *options)
    assert main(["check", "--model", str(world.folder), "--inputs", path]) == 2
    assert "give both" in capsys.readouterr().err
