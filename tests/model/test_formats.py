"""Models in bfloat16 and int8: close to float32, the same when read back; int8 has no gradient."""

import json
import os

import numpy as np
import pytest
from folders import edit_config, rewrite
from model_cases import CASES, LARGE, SMALL, batch_of, model_of
from safetensors.numpy import load_file

import minidistil as md
from minidistil.model.model import Model
from minidistil.ops import NARROW
from minidistil.ops.runtime import amx
from minidistil.testing import rms

each = pytest.mark.parametrize("dtype", NARROW)
named = pytest.mark.parametrize("name", CASES)
CLOSE = {"bfloat16": 0.02, "int8": 0.06}  # of an output's rms; a step is 0.4 % and 0.8 % of a row


def in_dtype(model, dtype, backend="cpu"):
    return model.with_ops(md.backend(backend, dtype))


def outputs(model, batch):
    out = model.forward(**batch, keep=False)
    names = ("last_hidden_state", "logits", "pooler_output", "seq_relationship_logits")
    return {n: getattr(out, n) for n in names if getattr(out, n) is not None}


@each
@named
@pytest.mark.parametrize("backend", ["numpy", "cpu"])
def test_a_model_is_close_to_itself_in_float32(name, dtype, backend):
    model, batch = model_of(CASES[name], SMALL, backend="numpy"), batch_of(CASES[name], SMALL)
    narrow = in_dtype(model, dtype, backend)
    assert narrow.dtype == dtype
    mine = outputs(narrow, batch)
    for key, x in outputs(model, batch).items():
        error = rms(mine[key] - x) / rms(x)
        assert 0 < error < CLOSE[dtype], f"{key}: {error}"
    for key, x in narrow.params.items():
        assert x.dtype == np.float32 and not x.flags.writeable
        np.testing.assert_array_equal(x, model.params[key])


@named
@pytest.mark.parametrize("amx_off", [False, True])
def test_what_is_packed_in_bfloat16_changes_no_bit(name, amx_off):
    """With taps, and for a backward, activations are arrays; without, inference packs them."""
    case = CASES[name]
    model, batch = in_dtype(model_of(case, LARGE), "bfloat16"), batch_of(case, LARGE)
    taps = [f"layer.{i}.activation" for i in range(LARGE["L"])]
    with amx.without_amx(amx_off):
        plain = model.forward(**batch, keep=False)
        tapped = model.forward(**batch, keep=False, taps=taps)
        kept = model.forward(**batch)
    for other in (tapped, kept):
        np.testing.assert_array_equal(plain.last_hidden_state, other.last_hidden_state)
    assert all(isinstance(tapped.taps[t], np.ndarray) for t in taps)


def test_int8_has_no_gradient():
    case = CASES["distilbert-mlm"]
    model, batch = in_dtype(model_of(case, SMALL), "int8"), batch_of(case, SMALL)
    for run in (lambda: model.gradients(batch), lambda: model.backward(model.forward(**batch))):
        with pytest.raises(ValueError, match="a model in int8 is for inference"):
            run()
    with pytest.raises(ValueError, match="is for inference"):
        md.distill_step(model, model_of(case, SMALL), batch, md.DistillConfig())


@named
def test_gradients_in_bfloat16_are_near_those_in_float32(name):
    """Of the kernels and of the specification, for every family."""
    model, batch = model_of(CASES[name], SMALL), batch_of(CASES[name], SMALL)

    def gradients(model):
        out = model.forward(**batch)
        rng = np.random.default_rng(0)
        return model.backward(out, dlast_hidden_state=rng.normal(size=out.last_hidden_state.shape))

    exact = gradients(model)
    largest = max(map(rms, exact.values()))
    for backend in ("numpy", "cpu"):
        near = gradients(in_dtype(model, "bfloat16", backend))
        assert near.keys() == exact.keys()
        errors = [rms(near[key] - d) / largest for key, d in exact.items()]
        assert 0 < max(errors) < 0.05
        assert all(d.dtype == np.float32 for d in near.values())


@each
def test_a_teacher(dtype):
    case = CASES["distilbert-mlm"]
    teacher, batch = model_of(case, SMALL, seed=3), batch_of(case, SMALL)
    student = md.student_from(in_dtype(teacher, dtype), (0,))
    assert student.dtype == "float32"
    config = md.DistillConfig()
    exact, close = (
        md.distill_step(student, t, batch, config) for t in (teacher, in_dtype(teacher, dtype))
    )
    assert 0 < abs(close.loss - exact.loss) < 0.05 * exact.loss
    for name, d in exact.grads.items():
        assert close.grads[name].dtype == np.float32
        assert rms(close.grads[name] - d) <= 0.2 * max(rms(d), 1e-4), name


def test_dtypes_that_do_not_exist():
    for wrong in ("float16", "int4", None):
        with pytest.raises(
            ValueError, match="dtype must be one of float32, float64, bfloat16, int8"
        ):
            md.backend("numpy", wrong)
    with pytest.raises(ValueError, match="float64 needs backend 'numpy'"):
        md.backend("cpu", "float64")


# ---------------------------------------------------------------- folders


def quantized(name, tmp_path):
    """A saved case, quantised: the folder, the model it was made from."""
    model = model_of(CASES[name], SMALL, backend="numpy")
    model.save_pretrained(tmp_path / name, dtype="int8")
    return tmp_path / name, model


@named
def test_a_quantised_folder_loads_like_any_other(name, tmp_path):
    folder, model = quantized(name, tmp_path)
    back, batch = md.from_pretrained(folder, backend="numpy"), batch_of(CASES[name], SMALL)
    assert (back.dtype, back.task, list(back.params)) == ("int8", model.task, list(model.params))
    stored = load_file(folder / "model.safetensors")
    for key, x in back.params.items():
        assert x.dtype == np.float32
        if x.ndim == 1:
            np.testing.assert_array_equal(x, model.params[key])
        else:
            step = stored[f"{key}_scale"][:, None]
            assert stored[key].dtype == np.int8
            assert (np.abs(x - model.params[key]) <= 0.501 * step).all()
    mine = outputs(back, batch)
    for key, x in outputs(model, batch).items():
        assert rms(mine[key] - x) < CLOSE["int8"] * rms(x), key
    wide = md.from_pretrained(folder, backend="numpy", dtype="float32")
    assert wide.dtype == "float32"
    assert wide.gradients(batch).loss > 0 if "labels" in batch else True


@named
def test_quantising_again_changes_no_byte(name, tmp_path):
    folder, _ = quantized(name, tmp_path)
    for dtype in ("int8", "float32"):
        md.from_pretrained(folder, dtype=dtype).save_pretrained(tmp_path / dtype, dtype="int8")
        old, new = ((f / "model.safetensors").read_bytes() for f in (folder, tmp_path / dtype))
        assert old == new
        old, new = (json.loads((f / "config.json").read_text()) for f in (folder, tmp_path / dtype))
        assert old == new


def test_int8_computes_with_the_numbers_that_are_stored(tmp_path):
    """Quantised when loaded or before: the linears are the same, to the last bit."""
    folder, model = quantized("distilbert-mlm", tmp_path)
    back = md.from_pretrained(folder, backend="numpy")
    rng, key = np.random.default_rng(0), "layer.1.lin1.weight"
    x, bias = rng.standard_normal((5, SMALL["C"]), np.float32), np.zeros(SMALL["F"], np.float32)
    one, two = (back.ops.linear.forward(x, m.canonical()[key], bias)[0] for m in (back, model))
    np.testing.assert_array_equal(one, two)


def test_a_quantised_folder_is_about_a_quarter(tmp_path):
    config = md.DistilBertConfig(vocab_size=3000, dim=192, n_layers=2, n_heads=3, hidden_dim=768)
    model = md.from_config(config)
    sizes = []
    for dtype in ("float32", "int8"):
        model.save_pretrained(tmp_path / dtype, dtype=dtype)
        sizes.append((tmp_path / dtype / "model.safetensors").stat().st_size)
    assert sizes[1] < 0.28 * sizes[0]


def refusal(folder):
    with pytest.raises(ValueError) as caught:
        md.from_pretrained(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


WEIGHT = "distilbert.transformer.layer.0.ffn.lin1.weight"


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda t: t.pop(f"{WEIGHT}_scale"), f"{WEIGHT} is I8, and {WEIGHT}_scale is missing"),
        (lambda t: t[f"{WEIGHT}_scale"].__setitem__(3, np.nan), "holds nan at 3"),
        (lambda t: t[f"{WEIGHT}_scale"].__setitem__(0, -1), "holds -1.0 at 0, not a number above"),
        (lambda t: t[f"{WEIGHT}_scale"].__setitem__(1, 0), "holds 0.0 at 1"),
        (lambda t: t[f"{WEIGHT}_scale"].__setitem__(1, np.inf), "holds inf at 1"),
        (lambda t: t.update({f"{WEIGHT}_scale": np.ones(3, np.float32)}), "each row, not (3,)"),
        (lambda t: t.update({f"{WEIGHT}_scale": t[WEIGHT][:, 0].copy()}), "needs a scale"),
        (lambda t: t.pop(WEIGHT), f"missing {WEIGHT}"),
        (lambda t: t.update({WEIGHT: t[WEIGHT].astype(np.float32)}), f"surplus {WEIGHT}_scale"),
        (lambda t: t.update({WEIGHT: t[WEIGHT][:, :-1].copy()}), "expected"),
    ],
)
def test_scales_that_cannot_be(change, words, tmp_path):
    folder, _ = quantized("distilbert-mlm", tmp_path)
    rewrite(folder, change)
    assert words in refusal(folder)


def test_other_methods_are_refused(tmp_path):
    folder, _ = quantized("distilbert-mlm", tmp_path)
    assert json.loads((folder / "config.json").read_text())["quantization_config"]["bits"] == 8
    for method in ({"quant_method": "gptq", "bits": 4}, "int8"):
        edit_config(folder, quantization_config=method)
        assert "quant_method 'minidistil'" in refusal(folder)


def test_numbers_that_int8_cannot_hold_leave_nothing_behind(tmp_path):
    model = model_of(CASES["distilbert-mlm"], SMALL)
    bad = model.params[WEIGHT].copy()
    bad[0, 0] = np.nan
    model.update({WEIGHT: bad})
    with pytest.raises(ValueError, match=f"{WEIGHT} holds NaN or infinity"):
        model.save_pretrained(tmp_path / "out", dtype="int8")
    assert os.listdir(tmp_path) == []


def test_an_update_is_seen():
    """What was packed from an old array is never used for a new one."""
    case = CASES["distilbert-mlm"]
    batch = batch_of(case, SMALL)
    for dtype in NARROW:
        model = in_dtype(model_of(case, SMALL), dtype)
        before = model.forward(**batch).last_hidden_state
        model.update({WEIGHT: 2 * model.params[WEIGHT]})
        fresh = Model(model.config, model.task, model.named_by_role(), model.ops)
        after = model.forward(**batch).last_hidden_state
        assert rms(after - before) > 0.01
        np.testing.assert_array_equal(after, fresh.forward(**batch).last_hidden_state)
