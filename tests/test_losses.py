"""`md.losses`: PyTorch's numbers for any leading axes, and gradients that are right."""

import numpy as np
import pytest
from model_cases import assert_same_formula, compare_array

import minidistil as md
from minidistil.testing import check_backward

SHAPES = [(7, 5), (3, 4, 5), (2, 3, 2, 5), (1, 1, 2)]
MASKED = [False, True]


def numbers(shape, seed=0, masked=False):
    """Two float32 arrays, a mask of the leading axes or None."""
    rng = np.random.default_rng(seed)
    x, y = (rng.normal(0, 2, shape).astype(np.float32) for _ in range(2))
    mask = None
    if masked:
        mask = rng.integers(0, 2, shape[:-1])
        mask[(0,) * mask.ndim] = 1
    return x, y, mask


def against_torch(loss, x, y, theirs, labels=False):
    """loss: (x, y) -> (loss, dx) of ours; theirs: the same in PyTorch, loss alone."""
    torch = pytest.importorskip("torch")
    answers = []
    for dtype in (np.float32, np.float64):
        a, b = x.astype(dtype), y if labels else y.astype(dtype)
        value, dx = loss(a, b)
        assert isinstance(value, float) and dx.shape == x.shape and dx.dtype == dtype
        z = torch.tensor(a, requires_grad=True)
        reference = theirs(torch, z, torch.tensor(b))
        reference.backward()
        answers.append((value, dx, reference.item(), z.grad.numpy()))
    (value, dx, their_value, their_dx), (spec_value, spec_dx, true_value, true_dx) = answers
    assert spec_value == pytest.approx(true_value, rel=1e-9)
    assert_same_formula("gradient", spec_dx, true_dx)
    compare_array("loss", value, their_value, true_value)
    compare_array("gradient", dx, their_dx, true_dx)


def chosen(torch, x, y, mask):
    wanted = torch.ones(x.shape[:-1], dtype=torch.bool) if mask is None else torch.tensor(mask) == 1
    return x[wanted], y[wanted]


@pytest.mark.parametrize("reduction, scale", [("batchmean", True), ("mean", True), ("sum", False)])
@pytest.mark.parametrize("masked", MASKED)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_kl_divergence(shape, masked, reduction, scale):
    x, y, mask = numbers(shape, masked=masked)
    tau = 3.0

    def theirs(torch, z, t):
        z, t = chosen(torch, z, t, mask)
        kl = torch.nn.KLDivLoss(reduction="sum" if reduction == "sum" else "batchmean")
        loss = kl(torch.log_softmax(z / tau, -1), torch.softmax(t / tau, -1))
        loss = loss / shape[-1] if reduction == "mean" else loss  # PyTorch's own warns of a change
        return loss * tau**2 if scale else loss

    options = {"mask": mask, "reduction": reduction, "scale": scale}
    against_torch(lambda a, b: md.losses.kl_divergence(a, b, tau, **options), x, y, theirs)


@pytest.mark.parametrize("masked", MASKED)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_cosine(shape, masked):
    x, y, mask = numbers(shape, masked=masked)

    def theirs(torch, a, b):
        a, b = chosen(torch, a, b, mask)
        return torch.nn.CosineEmbeddingLoss()(a, b, torch.ones(len(a), dtype=a.dtype))

    against_torch(lambda a, b: md.losses.cosine(a, b, mask), x, y, theirs)


@pytest.mark.parametrize("reduction", ["mean", "batchmean", "sum"])
@pytest.mark.parametrize("masked", MASKED)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_mse(shape, masked, reduction):
    x, y, mask = numbers(shape, masked=masked)

    def theirs(torch, a, b):
        a, b = chosen(torch, a, b, mask)
        loss = torch.nn.MSELoss(reduction="mean" if reduction == "mean" else "sum")(a, b)
        return loss / len(a) if reduction == "batchmean" else loss

    against_torch(lambda a, b: md.losses.mse(a, b, mask, reduction), x, y, theirs)


@pytest.mark.parametrize("ignore_index", [-100, 1])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_cross_entropy(shape, ignore_index):
    x, _, mask = numbers(shape, masked=True)
    labels = np.random.default_rng(1).integers(0, shape[-1], shape[:-1])
    labels = np.where(mask == 1, labels, ignore_index)
    labels[(0,) * labels.ndim] = 0

    def theirs(torch, z, t):
        loss = torch.nn.CrossEntropyLoss(ignore_index=ignore_index)
        return loss(z.flatten(0, -2), t.flatten())

    def mine(a, b):
        return md.losses.cross_entropy(a, b, ignore_index)

    against_torch(mine, x, labels, theirs, labels=True)


@pytest.mark.parametrize("masked", MASKED)
@pytest.mark.parametrize(
    "loss, options",
    [
        (md.losses.kl_divergence, {"temperature": 0.7}),
        (md.losses.kl_divergence, {"scale": False, "reduction": "mean"}),
        (md.losses.cosine, {}),
        (md.losses.mse, {"reduction": "batchmean"}),
    ],
)
def test_gradients(loss, options, masked):
    x, y, mask = numbers((3, 4, 5), masked=masked)
    check_backward(
        lambda z: loss(z, y.astype(np.float64), mask=mask, **options),
        lambda u, dz: [u * dz],
        [x],
        np.random.default_rng(2),
    )


# ---------------------------------------------------------------- without PyTorch


def test_values_that_can_be_computed_by_hand():
    even, sure = np.zeros((1, 2)), np.log([[3.0, 1.0]])
    assert md.losses.cross_entropy(sure, [1])[0] == pytest.approx(np.log(4))
    expected = 0.75 * np.log(0.75 / 0.5) + 0.25 * np.log(0.25 / 0.5)
    assert md.losses.kl_divergence(even, sure, temperature=1.0)[0] == pytest.approx(expected)
    assert md.losses.cosine([[1.0, 0.0]], [[0.0, 2.0]])[0] == pytest.approx(1)
    assert md.losses.cosine([[1.0, 1.0]], [[-3.0, -3.0]])[0] == pytest.approx(2)
    assert md.losses.mse([[1.0, 2.0]], [[3.0, 5.0]])[0] == pytest.approx(6.5)


def test_temperature_squared_keeps_the_size_of_the_gradient():
    x, y, _ = numbers((50, 30), seed=5)
    small = [abs(md.losses.kl_divergence(x, y, t, scale=False)[1]).mean() for t in (20.0, 40.0)]
    kept = [abs(md.losses.kl_divergence(x, y, t)[1]).mean() for t in (20.0, 40.0)]
    assert small[0] / small[1] == pytest.approx(4, rel=0.1)
    assert kept[0] / kept[1] == pytest.approx(1, rel=0.1)


def test_what_a_mask_hides_gets_no_gradient():
    x, y, mask = numbers((3, 4, 5), masked=True)
    for loss in (md.losses.kl_divergence, md.losses.cosine, md.losses.mse):
        _, dx = loss(x, y, mask=mask)
        assert not dx[mask == 0].any() and dx[mask == 1].any(axis=-1).all()


def test_any_numbers_are_taken():
    for kind in (np.int64, np.float16, list):
        x, y = ([[1, 2]], [[3, 5]]) if kind is list else np.array([[[1, 2]], [[3, 5]]], kind)
        loss, dx = md.losses.mse(x, y)
        assert loss == 6.5
        assert dx.dtype == np.float32


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda x, y: md.losses.kl_divergence(x, y[:-1]), "must have one shape"),
        (lambda x, y: md.losses.kl_divergence(x, y, mask=[1, 0]), "must be (7,)"),
        (lambda x, y: md.losses.kl_divergence(x, y, mask=np.zeros(7)), "at least one selected row"),
        (lambda x, y: md.losses.kl_divergence(x, y, 0.0), "temperature must be above 0"),
        (lambda x, y: md.losses.kl_divergence(x, y, reduction="most"), "reduction must be one of"),
        (lambda x, y: md.losses.mse(x, y, reduction="most"), "reduction must be one of"),
        (lambda x, y: md.losses.cosine(x, y.T), "must have one shape"),
        (lambda x, y: md.losses.cross_entropy(x, [0] * 6), "must be (7,)"),
        (lambda x, y: md.losses.cross_entropy(x, [0] * 6 + [5]), "label 5 is outside the 5"),
        (lambda x, y: md.losses.cross_entropy(x, [0] * 6 + [-1]), "label -1 is outside the 5"),
        (lambda x, y: md.losses.cross_entropy(x, [-100] * 7), "-100"),
        (lambda x, y: md.losses.cross_entropy(x, [0.0] * 7), "labels must be integers"),
    ],
)
def test_refused(call, words):
    x, y, _ = numbers((7, 5))
    with pytest.raises(ValueError) as caught:
        call(x, y)
    assert words in str(caught.value) and "\n" not in str(caught.value)
