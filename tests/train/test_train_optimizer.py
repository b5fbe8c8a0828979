"""AdamW and clipping: against a restatement in float64, and against PyTorch where installed."""

import numpy as np
import pytest

from minidistil.ops import Workspace
from minidistil.ops import global_norm as norm_op
from minidistil.ops.runtime import cpu
from minidistil.ops.runtime.workspace import owns_memory, size_class
from minidistil.testing import compare
from minidistil.train.bert_optimizers import BertAdam, Lamb
from minidistil.train.optimizer import AdamW, clip, clip_factor, decayed, global_norm

OPTIONS = {"lr": 3e-3, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.1}
SHAPES = {"lin.weight": (37, 53), "lin.bias": (37,), "sa_layer_norm.weight": (53,), "one": (1, 1)}


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def draw(rng, dtype=np.float32):
    return {name: rng.normal(size=shape).astype(dtype) for name, shape in SHAPES.items()}


def ten_steps(params, history, **options):
    params = dict(params)
    optimizer = AdamW(params, **{**OPTIONS, **options})
    for step, grads in enumerate(history):
        params.update(optimizer.step(grads, lr=OPTIONS["lr"] * (1 - step / 20)))
    return params, optimizer


def restated(params, history):
    """The textbook's form: corrected means, decay added to the direction, all in float64."""
    (b1, b2), decay = OPTIONS["betas"], OPTIONS["weight_decay"]
    out = {}
    for name, p in params.items():
        p = p.astype(np.float64)
        m = v = np.zeros_like(p)
        for step, grads in enumerate(history):
            g, lr = grads[name].astype(np.float64), OPTIONS["lr"] * (1 - step / 20)
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
            mhat, vhat = m / (1 - b1 ** (step + 1)), v / (1 - b2 ** (step + 1))
            weight = decay if p.ndim > 1 else 0.0
            p = p - lr * (mhat / (np.sqrt(vhat) + OPTIONS["eps"]) + weight * p)
        out[name] = p
    return out


def test_ten_steps_equal_the_textbook_in_float64(rng):
    params, history = draw(rng, np.float64), [draw(rng, np.float64) for _ in range(10)]
    mine, _ = ten_steps(params, history, backend="numpy")
    exact = restated(params, history)
    for name in SHAPES:
        # m/(1−β₁ᵗ)/(√v/√(1−β₂ᵗ) + ε) is the same quotient, rounded in another order.
        np.testing.assert_allclose(mine[name], exact[name], rtol=1e-13, atol=1e-14)


def test_ten_steps_of_the_kernel_are_as_exact_as_the_specification(rng):
    params, history = draw(rng), [draw(rng) for _ in range(10)]
    spec, _ = ten_steps(params, history, backend="numpy")
    mine, _ = ten_steps(params, history, backend="cpu")
    exact = restated(params, history)
    for name in SHAPES:
        assert mine[name].dtype == np.float32
        compare(name, mine[name], spec[name], exact[name])


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
def test_ten_steps_equal_torch(rng, backend):
    torch = pytest.importorskip("torch")
    params, history = draw(rng), [draw(rng) for _ in range(10)]
    mine, _ = ten_steps(params, history, backend=backend)
    theirs = {name: torch.nn.Parameter(torch.tensor(p)) for name, p in params.items()}
    groups = [
        {"params": [theirs[n] for n in SHAPES if n in decayed(params)]},
        {"params": [theirs[n] for n in SHAPES if n not in decayed(params)], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, **OPTIONS)
    for step, grads in enumerate(history):
        for group in optimizer.param_groups:
            group["lr"] = OPTIONS["lr"] * (1 - step / 20)
        for name, p in theirs.items():
            p.grad = torch.tensor(grads[name])
        optimizer.step()
    exact = restated(params, history)
    for name in SHAPES:
        compare(name, mine[name], theirs[name].detach().numpy(), exact[name])


def test_biases_and_norms_of_any_name_do_not_decay(rng):
    params = draw(rng)
    assert decayed(params) == {"lin.weight", "one"}
    zero = [{name: np.zeros_like(p) for name, p in params.items()}]
    after, _ = ten_steps(params, zero)
    for name in ("lin.bias", "sa_layer_norm.weight"):
        assert np.array_equal(after[name], params[name])
    assert np.abs(after["lin.weight"]).sum() < np.abs(params["lin.weight"]).sum()
    chosen, _ = ten_steps(params, zero, decay=["lin.bias"])
    assert np.array_equal(chosen["lin.weight"], params["lin.weight"])
    assert not np.array_equal(chosen["lin.bias"], params["lin.bias"])


def test_one_and_two_threads_give_the_same_bits(rng):
    params, history = draw(rng), [draw(rng) for _ in range(3)]
    results = []
    for count in (1, 2):
        with cpu.threads(count):
            results.append((ten_steps(params, history)[0], norm_op.norm_cpu(params.values())))
    assert results[0][1] == results[1][1]
    assert all(np.array_equal(results[0][0][name], results[1][0][name]) for name in SHAPES)


def test_state_takes_an_optimizer_up_where_it_was(rng):
    params, history = draw(rng), [draw(rng) for _ in range(6)]
    whole, _ = ten_steps(params, history)
    half, first = ten_steps(params, history[:3])
    state = first.state()
    second = AdamW(half, **OPTIONS)
    second.load({"t": state["t"], "m": dict(state["m"]), "v": dict(state["v"])})
    for step, grads in enumerate(history[3:], 3):
        half.update(second.step(grads, lr=OPTIONS["lr"] * (1 - step / 20)))
    assert all(np.array_equal(whole[name], half[name]) for name in SHAPES)


def test_memory_order_of_a_parameter_does_not_matter(rng):
    params, history = draw(rng), [draw(rng) for _ in range(3)]
    turned = {name: np.asfortranarray(p) for name, p in params.items()}
    turned_history = [{name: np.asfortranarray(g) for name, g in h.items()} for h in history]
    expected, _ = ten_steps(params, history)
    mine, _ = ten_steps(turned, turned_history)
    assert all(np.array_equal(mine[name], expected[name]) for name in SHAPES)


def test_a_step_leaves_parameters_and_gradients_alone(rng):
    params, grads = draw(rng), draw(rng)
    for array in (*params.values(), *grads.values()):
        array.flags.writeable = False
    new = AdamW(params, **OPTIONS).step({"one": grads["one"]})
    assert list(new) == ["one"]
    assert new["one"] is not params["one"] and not new["one"].flags.writeable


def test_wrong_names_and_shapes_are_refused(rng):
    params = draw(rng)
    with pytest.raises(ValueError, match="backend must be one of numpy, cpu, cuda, not 'gpu'"):
        AdamW(params, backend="gpu")
    with pytest.raises(ValueError, match="not there: LayerNorm"):
        AdamW(params, decay=["LayerNorm"])
    optimizer = AdamW(params)
    with pytest.raises(ValueError, match="'two' belongs to no parameter"):
        optimizer.step({"two": np.zeros(2)})
    with pytest.raises(ValueError, match=r"shape \(2,\), its parameter \(1, 1\)"):
        optimizer.step({"one": np.zeros(2)})
    state = AdamW({"one": np.zeros((1, 1))}).state()
    with pytest.raises(ValueError, match=r"other parameters: lin\.bias"):
        optimizer.load(state)
    other = AdamW({name: np.zeros(3) for name in SHAPES}).state()
    with pytest.raises(ValueError, match=r"shape \(3,\) in the saved"):
        optimizer.load(other)


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
@pytest.mark.parametrize(("max_norm", "size"), [(0.5, 1.0), (1e6, 1.0), (1e-6, 1e-7)])
def test_clip_equals_torch(rng, backend, max_norm, size):
    torch = pytest.importorskip("torch")
    grads = {name: g * np.float32(size) for name, g in draw(rng).items()}
    theirs = [torch.nn.Parameter(torch.zeros(shape)) for shape in SHAPES.values()]
    for p, g in zip(theirs, grads.values(), strict=True):
        p.grad = torch.tensor(g)
    expected = float(torch.nn.utils.clip_grad_norm_(theirs, max_norm))
    before = dict(grads)
    assert clip(grads, max_norm, backend) == pytest.approx(expected, rel=1e-6)
    for p, (name, g) in zip(theirs, grads.items(), strict=True):
        np.testing.assert_allclose(g, p.grad.numpy(), rtol=1e-6)
        assert g.dtype == np.float32
        assert (g is before[name]) == (max_norm == 1e6)


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
@pytest.mark.parametrize("kind", [AdamW, BertAdam, Lamb])
def test_a_scale_given_to_the_optimiser_is_that_of_clip(rng, backend, kind):
    params, grads = draw(rng), draw(rng)
    factor = clip_factor(global_norm(grads.values(), backend), 0.5)
    scaled = kind(params, **OPTIONS, backend=backend).step(grads, scale=factor)
    clip(grads, 0.5, backend)
    clipped = kind(params, **OPTIONS, backend=backend).step(grads)
    assert factor < 1
    for name in SHAPES:
        np.testing.assert_allclose(scaled[name], clipped[name], rtol=2e-6, atol=1e-7)


def test_new_parameters_reuse_memory_that_nothing_shows(rng):
    """Each replaces an array of the step before; one that is still held keeps its values."""
    first = {name: rng.normal(size=(200, 300)).astype(np.float32) for name in ("a", "b", "c")}
    grads = {name: np.ones_like(p) for name, p in first.items()}
    params = dict(first)
    optimizer = AdamW(params, **OPTIONS)
    with Workspace() as workspace:
        for step in range(4):
            for name, new in optimizer.steps(grads):
                params[name] = new
                assert not new.flags.writeable and owns_memory(new)
                del new
            if step == 0:
                held, values = params["b"], np.array(params["b"])
        assert workspace.nbytes < 6 * size_class(4 * 200 * 300)  # 3 in use, 1 held, 1 spare
    np.testing.assert_array_equal(held, values)


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
def test_norm_is_exact_and_sees_what_is_not_finite(backend):
    # In float32, adding 1 to 2²⁴ gives 2²⁴ again and the small terms would be lost.
    grads = {"big": np.array([4096.0], np.float32), "small": np.ones((3, 5), np.float32)}
    assert clip(grads, 1e9, backend) == pytest.approx(np.sqrt(2.0**24 + 15), rel=1e-15)
    for bad in (np.nan, np.inf):
        grads = {"a": np.array([1.0, bad], np.float32)}
        assert not np.isfinite(clip(grads, 1.0, backend))
        assert grads["a"][0] == 1.0
