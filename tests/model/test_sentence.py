"""Vectors of texts: pooling, what sentence-transformers' folders say, and training on pairs."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from model_cases import CASES, batch_of, model_of, torch_inputs

import minidistil as md
from minidistil.model.sentence import sentence_model
from minidistil.model.sentence.pooling import TYPES
from minidistil.model.sentence.sentence_model import Pooling, SentenceModel
from minidistil.testing import check_backward

BACKENDS = ("numpy", "cpu")
BOUNDS = np.array([0, 3, 4, 9])


def small_model(pooling=None, backend="cpu"):
    body = model_of(CASES["distilbert-body"], backend=backend)
    return SentenceModel(body.config, body.named_by_role(), body.ops, pooling)


def pairs(labels):
    """Three pairs of texts of uneven lengths, (3,2,T)."""
    a, b = (batch_of(CASES["distilbert-single"], seed=seed) for seed in (2, 3))
    batch = {
        name: np.stack([a[name], b[name]], axis=1)[:3] for name in ("input_ids", "attention_mask")
    }
    return batch | ({"labels": np.array([0.9, 0.1, 0.5], np.float32)} if labels else {})


@pytest.mark.parametrize("mode", ["mean", "cls"])
def test_pooling_and_its_gradient(mode):
    pooling, ops = Pooling(mode), md.backend("numpy", "float64")
    h = np.random.default_rng(0).normal(size=(9, 4))
    v, _ = sentence_model.pool(h, BOUNDS, pooling, 2, ops)
    parts = np.split(h, BOUNDS[1:-1])
    np.testing.assert_allclose(v, [x.mean(axis=0) if mode == "mean" else x[0] for x in parts])

    def forward(h):
        return sentence_model.pool(h, BOUNDS, pooling, 2, ops)

    def backward(dv, cache):
        return (sentence_model.pool_backward(dv, cache, pooling, ops),)

    check_backward(forward, backward, [h], np.random.default_rng(1))


def test_length_one_and_its_gradient():
    v = np.random.default_rng(0).normal(size=(3, 5))
    y, _ = sentence_model.normalise(v)
    np.testing.assert_allclose(np.linalg.norm(y, axis=1), 1)

    def backward(dy, cache):
        return (sentence_model.normalise_backward(dy, cache),)

    check_backward(sentence_model.normalise, backward, [v], np.random.default_rng(1))
    assert not sentence_model.normalise(np.zeros((1, 5)))[0].any()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize("mode", ["mean", "cls"])
def test_gradients_are_torchs(backend, labels, mode):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model, batch = small_model(Pooling(mode), backend), pairs(labels)
    batch["attention_mask"][:, :, 0] = 1
    config = transformers.DistilBertConfig(**model.config.to_dict())
    theirs = transformers.DistilBertModel(config).eval()
    theirs.load_state_dict({name: torch.tensor(np.array(p)) for name, p in model.params.items()})
    flat = {name: x.reshape(6, -1) for name, x in batch.items() if name != "labels"}
    inputs = torch_inputs(flat)
    h, mask = theirs(**inputs).last_hidden_state, inputs["attention_mask"][:, :, None]
    v = h[:, 0] if mode == "cls" else (h * mask).sum(1) / mask.sum(1)
    v = torch.nn.functional.normalize(v)
    u, w = v[0::2], v[1::2]
    if labels:
        loss = torch.nn.functional.mse_loss((u * w).sum(1), torch.tensor(batch["labels"]))
    else:
        loss = torch.nn.functional.cross_entropy(20 * u @ w.T, torch.arange(3))
    loss.backward()
    step = model.gradients(batch)
    assert step.loss == pytest.approx(loss.item(), rel=1e-4)
    largest = max(p.grad.abs().max().item() for p in theirs.parameters())
    for name, p in theirs.named_parameters():
        np.testing.assert_allclose(step.grads[name], p.grad, atol=2e-5 * largest, err_msg=name)


def test_a_folder_keeps_its_pooling(tmp_path):
    pooling = Pooling("cls", False, 64)
    small_model(pooling).save_pretrained(tmp_path)
    again = md.from_pretrained(tmp_path, task="sentence-embedding")
    assert again.pooling == pooling and again.with_ops(md.backend("numpy")).pooling == pooling
    kinds = [module["type"] for module in json.loads((tmp_path / "modules.json").read_text())]
    assert kinds == [TYPES + "Transformer", TYPES + "Pooling"]
    (tmp_path / "modules.json").unlink()
    assert Pooling.read(tmp_path) == Pooling("mean", True)


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("modules.json", lambda m: [*m, {"type": "x.Dense"}], "Dense"),
        ("1_Pooling/config.json", lambda p: p | {"pooling_mode_max_tokens": True}, "max_tokens"),
        ("1_Pooling/config.json", lambda p: {}, "no pooling"),
    ],
)
def test_what_is_not_known_is_refused(tmp_path, name, change, says):
    Pooling().write(tmp_path, 8)
    file = tmp_path / name
    file.write_text(json.dumps(change(json.loads(file.read_text()))))
    with pytest.raises(ValueError, match=says):
        Pooling.read(tmp_path)


def test_single_texts_are_no_pairs():
    with pytest.raises(ValueError, match="pairs"):
        small_model().gradients(batch_of(CASES["distilbert-single"]))


def test_real_vectors_rank_sts():
    """all-MiniLM-L6-v2 on the first pairs of STS-B's dev set: what people say of similarity."""
    folder = os.environ.get("MINIDISTIL_MINILM", "/nowhere")
    data = Path(os.environ.get("MINIDISTIL_DATA", "/nowhere")) / "glue" / "STS-B" / "dev.tsv"
    if not (Path(folder).is_dir() and data.exists()):
        pytest.skip("MINIDISTIL_MINILM names no folder of all-MiniLM-L6-v2, or STS-B is not here")
    from minidistil.data import examples
    from minidistil.tasks import glue_metrics

    found = list(examples(data, label="score"))[:200]
    predict = md.pipeline("sentence-embedding", folder)
    u, w = (predict.encode([example[i] for example in found]) for i in (0, 1))
    labels = np.array([float(label) for *_, label in found])
    assert glue_metrics.regression((u * w).sum(axis=1), labels)["spearman"] > 0.84
