"""Parameters: how many, how they start, and who may change them."""

import numpy as np
import pytest
from model_cases import CASES, SMALL, batch_of, fields, model_of

import minidistil as md
from minidistil.config import FAMILIES
from minidistil.model.heads import FAMILY
from minidistil.model.params import body_shapes, count, shapes
from minidistil.model.params import sinusoids as our_sinusoids


@pytest.mark.parametrize(
    "config, task, expected",
    [
        (md.DistilBertConfig(), "feature-extraction", 66_362_880),
        (md.DistilBertConfig(), "fill-mask", 66_985_530),
        (md.BertConfig(), "feature-extraction", 109_482_240),
        (md.BertConfig(), "fill-mask", 109_514_298),
        (md.AlbertConfig(), "feature-extraction", 11_683_584),
        (md.RobertaConfig(), "feature-extraction", 124_645_632),
        (md.RobertaConfig(num_hidden_layers=6), "feature-extraction", 82_118_400),
    ],
)
def test_counts_of_the_published_models(config, task, expected):
    assert count(shapes(config, task)) == expected


@pytest.mark.parametrize("config", [md.DistilBertConfig(), md.BertConfig()])
def test_count_of_one_layer(config):
    layer = {k: s for k, s in body_shapes(config.architecture).items() if k.startswith("layer.3.")}
    assert count(layer) == 7_087_872


# ---------------------------------------------------------------- how they start

CONFIGS = [
    md.BertConfig(vocab_size=300, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
                  intermediate_size=96, initializer_range=0.03, pad_token_id=7),
    md.DistilBertConfig(vocab_size=300, dim=64, n_layers=2, n_heads=4, hidden_dim=96,
                        initializer_range=0.03, pad_token_id=7),
    md.RobertaConfig(vocab_size=300, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
                     intermediate_size=96, initializer_range=0.03, pad_token_id=7,
                     type_vocab_size=2),
    md.AlbertConfig(vocab_size=300, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
                    intermediate_size=96, initializer_range=0.03, pad_token_id=7,
                    embedding_size=60, num_hidden_groups=2),
]  # fmt: skip


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("task", ["fill-mask", "text-classification", "feature-extraction"])
def test_initial_statistics(config, task):
    model = md.from_config(config, task, seed=1)
    matrices = []
    for name, p in model.params.items():
        if p.ndim == 2:
            padded = "word" in name or ("position" in name and config.model_type == "roberta")
            matrices.append(p[np.arange(len(p)) != 7] if padded else p)
            assert not padded or not p[7].any(), name
        else:
            norm = "norm" in name.lower() and name.endswith("weight")
            assert (p == (1 if norm else 0)).all(), name
    everything = np.concatenate([p.ravel() for p in matrices])
    assert everything.std() == pytest.approx(0.03, rel=0.02)
    assert abs(everything.mean()) < 3e-4
    assert np.mean(abs(everything) > 0.06) == pytest.approx(0.0455, rel=0.1)  # normal, not uniform
    products = [a.ravel()[:100] @ b.ravel()[:100] for a in matrices[:5] for b in matrices[5:9]]
    assert max(map(abs, products)) < 0.03**2 * 10 * 5  # streams of their own: uncorrelated


@pytest.mark.parametrize("config", CONFIGS)
def test_seeds(config):
    one, again, other = (md.from_config(config, seed=s).params for s in (1, 1, 2))
    for name, p in one.items():
        np.testing.assert_array_equal(p, again[name])
        assert p.ndim == 1 or (p != other[name]).any()
    with_classifier = md.from_config(config, "text-classification", seed=1).params
    for name in set(one) & set(with_classifier):
        np.testing.assert_array_equal(one[name], with_classifier[name])


def test_sinusoidal_positions():
    config = md.DistilBertConfig(vocab_size=30, dim=8, n_layers=1, n_heads=2, hidden_dim=8,
                                 max_position_embeddings=17, sinusoidal_pos_embds=True)  # fmt: skip
    table = md.from_config(config).params["distilbert.embeddings.position_embeddings.weight"]
    for p in (0, 1, 16):
        for j in range(4):
            angle = p / 10000 ** (2 * j / 8)
            assert table[p, 2 * j] == pytest.approx(np.sin(angle), abs=1e-6)
            assert table[p, 2 * j + 1] == pytest.approx(np.cos(angle), abs=1e-6)


def test_sinusoids_are_those_of_transformers():
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from transformers.models.distilbert.modeling_distilbert import create_sinusoidal_embeddings

    table = torch.zeros(19, 12)
    create_sinusoidal_embeddings(n_pos=19, dim=12, out=table)
    np.testing.assert_allclose(our_sinusoids(19, 12), table.numpy(), atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_names_and_shapes_are_those_of_transformers(name):
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from minidistil.model.heads import architecture_name

    model = model_of(CASES[name], SMALL)
    config = transformers.AutoConfig.for_model(**fields(CASES[name], SMALL))
    theirs = getattr(transformers, architecture_name(model.config, model.task))(config)
    expected = {n: tuple(p.shape) for n, p in theirs.named_parameters()}
    assert {n: p.shape for n, p in model.params.items()} == expected


@pytest.mark.parametrize("task", ["pretraining", "next-sentence-prediction", "poetry"])
def test_tasks_that_a_family_lacks(task):
    with pytest.raises(ValueError, match="task must be one of fill-mask"):
        md.from_config(CONFIGS[1], task)


# ---------------------------------------------------------------- who may change them


def test_params_are_read_only():
    model = model_of(CASES["distilbert-mlm"], SMALL)
    for name, p in model.params.items():
        assert p.dtype == np.float32
        with pytest.raises(ValueError, match="read-only"):
            p[...] = 0
        with pytest.raises(TypeError):
            model.params[name] = p


def test_update_replaces():
    case = CASES["distilbert-mlm"]
    model, batch = model_of(case, SMALL), batch_of(case, SMALL)
    loss = model.forward(**batch).loss
    name = "vocab_layer_norm.weight"
    before = model.params[name]
    model.update({name: 2 * before})
    np.testing.assert_array_equal(model.params[name], 2 * before)
    assert model.forward(**batch).loss != loss
    model.update({name: before})
    assert model.forward(**batch).loss == loss


@pytest.mark.parametrize("lock", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_update_does_not_hold_on_to_the_callers_array(dtype, lock):
    model = model_of(CASES["distilbert-mlm"], SMALL)
    name = "vocab_transform.weight"
    mine = np.zeros((SMALL["C"], SMALL["C"]), dtype)
    handed = mine[...]
    handed.flags.writeable = not lock
    model.update({name: handed})
    mine[...] = 5
    assert handed.flags.writeable != lock
    assert not model.params[name].any()


def test_update_takes_what_looks_like_an_array():
    model = model_of(CASES["distilbert-regression"], SMALL)
    model.update({"classifier.bias": [0.5]})
    assert model.params["classifier.bias"] == np.float32(0.5)


def test_update_changes_all_or_nothing():
    model = model_of(CASES["distilbert-mlm"], SMALL)
    before = dict(model.params)
    good = {"vocab_transform.bias": np.zeros(SMALL["C"])}
    with pytest.raises(ValueError, match=r"vocab_projector.bias must be \(23,\), not \(9,\)"):
        model.update(good | {"vocab_projector.bias": np.zeros(SMALL["C"])})
    with pytest.raises(ValueError, match="no parameter is called 'bias'"):
        model.update(good | {"bias": np.zeros(SMALL["C"])})
    assert all(model.params[name] is p for name, p in before.items())


def test_update_reaches_float64(tmp_path):
    case = CASES["distilbert-mlm"]
    model_of(case, SMALL).save_pretrained(tmp_path)
    model = md.from_pretrained(tmp_path, backend="numpy", dtype="float64")
    name = "vocab_projector.bias"
    model.update({name: np.full(SMALL["V"], 1 / 3)})
    assert model.params[name].dtype == np.float32
    out = model.forward(**batch_of(case, SMALL))
    assert out.logits.dtype == np.float64


# ---------------------------------------------------------------- configs


@pytest.mark.parametrize("name", CASES)
def test_config_survives_its_json(name):
    config = model_of(CASES[name], SMALL).config
    assert type(config).from_dict(config.to_dict()).to_dict() == config.to_dict()
    for key, value in fields(CASES[name], SMALL).items():
        assert config.to_dict()[key] == value


def test_what_a_config_json_leaves_out_is_what_transformers_takes_it_for():
    transformers = pytest.importorskip("transformers")
    for name in ("bert", "roberta", "albert", "distilbert"):
        mine = FAMILIES[name].from_dict({"vocab_size": 99}).to_dict()
        theirs = getattr(transformers, f"{FAMILY[name].prefix}Config")(vocab_size=99).to_dict()
        for key in ("id2label", "label2id"):
            theirs[key] = {str(k): v for k, v in theirs[key].items()}
        assert mine == {key: theirs[key] for key in mine}


@pytest.mark.parametrize(
    ("turns", "groups", "inner", "blocks"),
    [
        (4, 1, 1, "0000"),
        (4, 2, 1, "0011"),
        (3, 2, 1, "001"),
        (2, 2, 2, "0123"),
        (3, 1, 2, "010101"),
    ],
)
def test_whose_turn_it_is_in_albert(turns, groups, inner, blocks):
    config = md.AlbertConfig(
        num_hidden_layers=turns, num_hidden_groups=groups, inner_group_num=inner
    )
    assert "".join(map(str, config.architecture.blocks)) == blocks
    assert len(blocks) == config.architecture.L
    with pytest.raises(
        ValueError, match=f"num_hidden_groups {turns + 1} is more than num_hidden_layers"
    ):
        md.AlbertConfig(num_hidden_layers=turns, num_hidden_groups=turns + 1)
    with pytest.raises(ValueError, match="embedding_size must be at least 1, not 0"):
        md.AlbertConfig(embedding_size=0)


def test_config_is_frozen():
    with pytest.raises(AttributeError):
        md.BertConfig().hidden_size = 3
