"""Folders of models: what can be read and from where, and what is written."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from folders import folder_of, same, write_by_hand
from model_cases import CASES, SMALL, Case, batch_of, fields, model_of, torch_model
from safetensors.numpy import load_file

import minidistil as md
from minidistil.model.names import BODY

MLM = ["bert-mlm", "distilbert-mlm"]


# ---------------------------------------------------------------- reading


@pytest.mark.parametrize("name", CASES)
def test_round_trip(name, tmp_path):
    folder, model = folder_of(name, tmp_path)
    back = md.from_pretrained(folder)
    same(model, back)
    assert back.task == model.task
    assert back.config.to_dict() | {"architectures": None} == model.config.to_dict() | {
        "architectures": None
    }


@pytest.mark.parametrize("name", CASES)
def test_transformers_reads_what_we_write(name, tmp_path):
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    folder, model = folder_of(name, tmp_path)
    cls = getattr(transformers, type(torch_model(model, fields(CASES[name], SMALL))).__name__)
    theirs, info = cls.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), info
    for key, p in theirs.named_parameters():
        np.testing.assert_array_equal(p.detach().numpy(), model.params[key], err_msg=key)
    labels = model.config.id2label
    if labels:
        assert tuple(theirs.config.id2label[k] for k in range(len(labels))) == labels


@pytest.mark.parametrize("name", CASES)
def test_we_read_what_transformers_writes(name, tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    model = model_of(CASES[name], SMALL)
    theirs = torch_model(model, fields(CASES[name], SMALL))
    theirs.save_pretrained(tmp_path / "whole")
    same(model, md.from_pretrained(tmp_path / "whole"))
    theirs.save_pretrained(tmp_path / "sharded", max_shard_size="2KB")
    assert (tmp_path / "sharded" / "model.safetensors.index.json").exists()
    same(model, md.from_pretrained(tmp_path / "sharded"))


@pytest.mark.parametrize("name", MLM)
def test_old_names_and_buffers_and_copies(name, tmp_path):
    """gamma and beta, tied copies, position_ids: as the first checkpoints were written."""
    model = model_of(CASES[name], SMALL)
    prefix = BODY[model.config.model_type][0]
    word = model.params[f"{prefix}embeddings.word_embeddings.weight"]
    extra = {f"{prefix}embeddings.position_ids": np.arange(SMALL["P"])[None]}
    if name == "bert-mlm":
        extra["cls.predictions.decoder.weight"] = word
        extra["cls.predictions.decoder.bias"] = model.params["cls.predictions.bias"]
    else:
        extra["vocab_projector.weight"] = word

    def rename(key):
        old = {"weight": "gamma", "bias": "beta"}
        stem, _, last = key.rpartition(".")
        return f"{stem}.{old[last]}" if "norm" in stem.lower() else key

    folder, model = folder_of(name, tmp_path, rename, extra=extra)
    assert any(key.endswith(".gamma") for key in load_file(folder / "model.safetensors"))
    same(model, md.from_pretrained(folder))


@pytest.mark.parametrize("name", MLM)
def test_prefix_may_be_absent(name, tmp_path):
    prefix = BODY[CASES[name].family][0]
    folder, model = folder_of(name, tmp_path, lambda key: key.removeprefix(prefix))
    same(model, md.from_pretrained(folder))


@pytest.mark.parametrize("name", ["bert-body", "distilbert-body"])
def test_prefix_may_be_present(name, tmp_path):
    prefix = BODY[CASES[name].family][0]
    folder, model = folder_of(name, tmp_path, lambda key: prefix + key)
    same(model, md.from_pretrained(folder))


@pytest.mark.parametrize("name", MLM)
def test_only_the_tied_copy_is_there(name, tmp_path):
    word = {
        "bert-mlm": "cls.predictions.decoder.weight",
        "distilbert-mlm": "vocab_projector.weight",
    }
    folder, model = folder_of(
        name, tmp_path, lambda key: word[name] if "word_embeddings" in key else key
    )
    same(model, md.from_pretrained(folder))


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_stored_dtypes(dtype, tmp_path):
    folder, model = folder_of("distilbert-mlm", tmp_path, dtype=dtype)
    for key, array in md.from_pretrained(folder).params.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, model.params[key].astype(dtype).astype(np.float32))


def test_bfloat16_is_the_upper_half_of_a_float32(tmp_path):
    folder, model = folder_of("distilbert-mlm", tmp_path)
    halves = {k: (v.view(np.uint32) >> 16).astype(np.uint16) for k, v in model.params.items()}
    write_by_hand(folder / "model.safetensors", "BF16", halves)
    for key, array in md.from_pretrained(folder).params.items():
        expected = (halves[key].astype(np.uint32) << 16).view(np.float32)
        np.testing.assert_array_equal(array, expected)


def test_saving_in_half_precision(tmp_path):
    model = model_of(CASES["bert-mlm"], SMALL)
    model.save_pretrained(tmp_path / "half", dtype="float16")
    model.save_pretrained(tmp_path / "whole")
    sizes = [(tmp_path / f / "model.safetensors").stat().st_size for f in ("half", "whole")]
    assert sizes[0] < 0.7 * sizes[1]
    for key, array in md.from_pretrained(tmp_path / "half").params.items():
        np.testing.assert_array_equal(array, model.params[key].astype(np.float16))
    with pytest.raises(ValueError, match="dtype must be one of"):
        model.save_pretrained(tmp_path / "none", dtype="int3")
    name = "cls.predictions.bias"
    model.update({name: np.full(SMALL["V"], 1e5)})
    with pytest.raises(ValueError, match=f"{name} holds numbers above 65504"):
        model.save_pretrained(tmp_path / "none", dtype="float16")
    assert not (tmp_path / "none").exists()


def test_a_saved_file_is_read_before_an_older_index(tmp_path):
    folder, model = folder_of("distilbert-mlm", tmp_path)
    shutil.move(folder / "model.safetensors", folder / "old.safetensors")
    index = {"weight_map": dict.fromkeys(model.params, "old.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    same(model, md.from_pretrained(folder))
    other = model_of(CASES["distilbert-mlm"], SMALL, seed=9)
    other.save_pretrained(folder)
    same(other, md.from_pretrained(folder))


# ---------------------------------------------------------------- heads


def test_heads_that_the_task_does_not_use_are_dropped(tmp_path):
    folder, model = folder_of("bert-pretraining", tmp_path)
    with pytest.warns(UserWarning, match="does not use .*pooler.*seq_relationship") as record:
        mlm = md.from_pretrained(folder, task="fill-mask")
    assert record[0].filename == __file__
    assert "cls.seq_relationship.weight" not in mlm.params
    for key, array in mlm.params.items():
        np.testing.assert_array_equal(array, model.params[key])


@pytest.mark.filterwarnings("ignore:task .* does not use")
def test_heads_that_the_folder_lacks_start_from_the_seed(tmp_path):
    folder, _ = folder_of("distilbert-mlm", tmp_path)

    def classifier(seed):
        with pytest.warns(UserWarning, match=f"initialised from seed {seed}.*pre_classifier"):
            return md.from_pretrained(folder, task="text-classification", num_labels=5, seed=seed)

    one, again, other = classifier(1), classifier(1), classifier(2)
    assert one.params["classifier.weight"].shape == (5, SMALL["C"])
    same(one, again)
    assert (one.params["classifier.weight"] != other.params["classifier.weight"]).any()
    assert not one.params["classifier.bias"].any()


def test_num_labels_starts_the_classifier_anew(tmp_path):
    folder, model = folder_of("distilbert-single", tmp_path)
    with pytest.warns(UserWarning, match=r"to be trained: classifier\.weight, classifier\.bias"):
        wider = md.from_pretrained(folder, num_labels=7)
    assert wider.config.num_labels == 7
    key = "pre_classifier.weight"
    np.testing.assert_array_equal(wider.params[key], model.params[key])
    regression = md.from_pretrained(folder, problem_type="multi_label_classification")
    assert regression.config.problem_type == "multi_label_classification"


def test_an_albert_asks_for_the_order_with_as_many_labels_as_transformers_does(tmp_path):
    case = Case("albert", "pretraining", {"labels": 3})
    model, batch = model_of(case, SMALL), batch_of(case, SMALL)
    assert model.params["sop_classifier.classifier.weight"].shape == (3, SMALL["C"])
    with pytest.raises(ValueError, match="this loss needs num_labels 2, not 3; load the model wi"):
        model.forward(**batch)
    model.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match=r"to be trained: sop_classifier\.classifier\.weight"):
        two = md.from_pretrained(tmp_path, num_labels=2)
    assert np.isfinite(two.forward(**batch).loss)
    torch, transformers = map(pytest.importorskip, ("torch", "transformers"))
    theirs, info = transformers.AlbertForPreTraining.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not any(info.values()), info
    inputs = {n: torch.tensor(x) for n, x in batch.items() if "label" not in n}
    sop = theirs.eval()(**inputs).sop_logits.detach().numpy()
    mine = model.forward(**{n: x.numpy() for n, x in inputs.items()}).sop_logits
    np.testing.assert_allclose(mine, sop, atol=1e-5)
    theirs.save_pretrained(tmp_path / "theirs")
    same(model, md.from_pretrained(tmp_path / "theirs"))


# ---------------------------------------------------------------- names on the hub


def test_names_on_the_hub(tmp_path):
    folder, model = folder_of("distilbert-mlm", tmp_path)
    environment = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()}
    environment.pop("HF_HUB_OFFLINE", None)  # the hub asked here is a process of this machine
    environment |= {"HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("fake_hub.py")), str(folder)],
        capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found, absent, impossible, cached, offline = done.stdout.splitlines()
    assert found == f"fill-mask {len(model.params)}"
    for name, line in (
        ("some/absent", absent),
        ("not a name!", impossible),
        ("some/other", offline),
    ):
        assert line.startswith(f"{name} is neither a folder nor a repository the hub hands out (")
    assert cached == found
