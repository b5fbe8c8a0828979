"""Folders that are refused in one line, and disks that refuse: nothing is left half-written."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from folders import edit_config, folder_of, rewrite, same, write_by_hand
from model_cases import CASES, SMALL, model_of
from safetensors.numpy import save_file

import minidistil as md


def refusal(folder, **options):
    """The message of the one-line error that reading the folder ends in."""
    with pytest.raises(ValueError) as caught:
        md.from_pretrained(folder, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


# ---------------------------------------------------------------- refused


def test_missing_files(tmp_path):
    folder, _ = folder_of("distilbert-mlm", tmp_path)
    weights = folder / "model.safetensors"
    weights.unlink()
    assert "neither model.safetensors nor" in refusal(folder)
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "b.safetensors"}}')
    assert "b.safetensors is missing" in refusal(folder)
    (folder / "config.json").unlink()
    assert "config.json is missing" in refusal(folder)
    for name in (tmp_path / "nowhere", "./nowhere", "../nowhere", weights):
        assert "is not a folder" in refusal(name)
    with pytest.raises(FileNotFoundError):
        md.from_pretrained(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pth"])
def test_pickles_are_not_opened(name, tmp_path):
    folder, _ = folder_of("distilbert-mlm", tmp_path)
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    message = refusal(folder)
    assert name in message and "pickle" in message and "convert" in message


@pytest.mark.parametrize("keep", [0, 7, 8, 100, -1])
def test_truncated(keep, tmp_path):
    folder, _ = folder_of("distilbert-mlm", tmp_path)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    message = refusal(folder)
    assert "model.safetensors is not a whole safetensors file" in message


@pytest.mark.parametrize("at", [0, 7, 8, 40])
def test_corrupted_header(at, tmp_path):
    folder, _ = folder_of("distilbert-mlm", tmp_path)
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)
    refusal(folder)


@pytest.mark.parametrize(
    "lie",
    [
        {"shape": [1, 1]},
        {"shape": [10**9, 10**9]},
        {"data_offsets": [0, 10**12]},
        {"dtype": "F64"},
        {"dtype": "F1"},
        {"shape": [-1]},
    ],
    ids=str,
)
def test_header_that_lies(lie, tmp_path):
    folder, model = folder_of("distilbert-mlm", tmp_path)
    name = next(iter(model.params))
    write_by_hand(
        folder / "model.safetensors", "F32", model.params, lambda header: header[name].update(lie)
    )
    assert "model.safetensors" in refusal(folder)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 3}}',
                                  '{"weight_map": {"a": "../b.safetensors"}}', "\x00"])  # fmt: skip
def test_bad_index(text, tmp_path):
    folder, _ = folder_of("distilbert-mlm", tmp_path)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(text)
    assert "model.safetensors.index.json" in refusal(folder)


def test_everything_wrong_with_the_tensors_in_one_message(tmp_path):
    folder, _ = folder_of("distilbert-mlm", tmp_path)
    layer = "distilbert.transformer.layer."

    def change(tensors):
        del tensors[f"{layer}0.ffn.lin1.bias"]
        tensors[f"{layer}1.ffn.lin1.bias"] = np.zeros(3, np.float32)
        tensors[f"{layer}2.ffn.lin1.bias"] = np.zeros(4, np.float32)
        tensors["distilbert.extra.weight"] = np.zeros((2, 2), np.float32)
        tensors[f"{layer}1.ffn.lin2.bias"][0] = np.nan
        tensors["vocab_projector.weight"] = np.zeros((SMALL["V"], SMALL["C"]), np.float32)

    rewrite(folder, change)
    message = refusal(folder)
    for part in (
        f"missing {layer}0.ffn.lin1.bias (14,)",
        f"{layer}1.ffn.lin1.bias is (3,), expected (14,)",
        f"surplus {layer}2.ffn.lin1.bias (4,)",
        "surplus distilbert.extra.weight (2, 2)",
        f"{layer}1.ffn.lin2.bias holds NaN",
        "vocab_projector.weight differs from distilbert.embeddings.word_embeddings.weight",
    ):
        assert part in message


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite(value, tmp_path):
    folder, _ = folder_of("bert-single", tmp_path)
    rewrite(folder, lambda tensors: tensors["classifier.weight"].__setitem__((0, 0), value))
    assert "classifier.weight holds NaN or infinity" in refusal(folder)


def test_a_tensor_under_two_names(tmp_path):
    folder, model = folder_of("distilbert-mlm", tmp_path)
    key = "embeddings.LayerNorm.weight"
    rewrite(folder, lambda tensors: tensors.update({key: model.params[f"distilbert.{key}"]}))
    assert "appears twice" in refusal(folder)


def test_dtypes_that_hold_no_weights(tmp_path):
    folder, model = folder_of("distilbert-mlm", tmp_path)
    small = {k: v.astype(np.uint8) for k, v in model.params.items()}
    save_file(small, folder / "model.safetensors")
    assert "is U8; F32, F16, BF16 and F64 can be read" in refusal(folder)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"model_type": "electra"}, "not 'electra'"),
        ({"model_type": None}, "model_type must be one of"),
        ({"model_type": ["bert"]}, "model_type must be one of"),
        ({"n_heads": 2}, "dim 9 does not split into n_heads 2 equal heads"),
        ({"n_heads": 0}, "at least 1"),
        ({"n_layers": -2}, "at least 1"),
        ({"n_layers": "two"}, "n_layers must be int, not 'two'"),
        ({"n_layers": True}, "n_layers must be int, not True"),
        ({"dim": 9.0}, "dim must be int, not 9.0"),
        ({"dropout": 1.5}, "dropout must be in [0, 1), not 1.5"),
        ({"activation": "swish"}, "activation must be one of"),
        ({"pad_token_id": 99}, "pad_token_id 99 is outside the vocabulary of 23"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings must be true"),
        ({"architectures": ["DistilBertForDancing"]}, "choose a task"),
        ({"problem_type": "guess"}, "problem_type must be one of"),
        ({"id2label": {"a": "b"}}, "id2label"),
        ({"id2label": [1, 2]}, "id2label"),
        ({"vocab_size": 24}, "is (23, 9), expected (24, 9)"),
        ({"n_layers": 3}, "missing distilbert.transformer.layer.2.attention.q_lin.weight (9, 9)"),
        ({"n_layers": 1}, "surplus distilbert.transformer.layer.1.attention.q_lin.weight (9, 9)"),
    ],
    ids=lambda x: str(x) if isinstance(x, dict) else "",
)
def test_contradictory_config(changes, words, tmp_path):
    folder, _ = folder_of("distilbert-mlm", tmp_path)
    edit_config(folder, **changes)
    assert words in refusal(folder)


@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b"\xff\xfe{}", b"null"])
def test_config_that_is_no_object(data, tmp_path):
    folder, _ = folder_of("distilbert-mlm", tmp_path)
    (folder / "config.json").write_bytes(data)
    assert "config.json" in refusal(folder)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"task": "cooking"}, "task must be one of"),
        ({"task": "pretraining"}, "task must be one of"),
        ({"backend": "abacus"}, "backend must be one of"),
        ({"dtype": "float16"}, "dtype must be one of"),
        ({"dtype": "float64"}, "float64 needs backend 'numpy'"),
        ({"num_labels": 0}, "num_labels"),
        ({"problem_type": "guess"}, "problem_type must be one of"),
    ],
    ids=str,
)
def test_options_that_do_not_exist(options, words, tmp_path):
    folder, _ = folder_of("distilbert-mlm", tmp_path)
    assert words in refusal(folder, **options)


def test_zero_in_json_is_a_number_like_any_other(tmp_path):
    folder, _ = folder_of("bert-single", tmp_path)
    edit_config(folder, classifier_dropout=0, hidden_dropout_prob=0)
    assert md.from_pretrained(folder).config.classifier_dropout == 0


# ---------------------------------------------------------------- a disk that refuses


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("call", ["write_bytes", "fsync", "replace"])
def test_full_disk_leaves_the_folder_as_it_was(call, tmp_path, monkeypatch):
    folder, model = folder_of("distilbert-mlm", tmp_path)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    other = model_of(CASES["distilbert-single"], SMALL)
    place = Path if call == "write_bytes" else os
    monkeypatch.setattr(place, call, full)
    for target in (folder, tmp_path / "new" / "deep"):
        with pytest.raises(OSError, match=r"cannot write .*No space left") as caught:
            other.save_pretrained(target)
        assert "\n" not in str(caught.value)
    monkeypatch.undo()
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert not (tmp_path / "new" / "deep").exists()
    same(model, md.from_pretrained(folder))


def test_second_file_that_does_not_fit(tmp_path, monkeypatch):
    """Weights are not left beside a config of another model."""
    folder, model = folder_of("distilbert-mlm", tmp_path)
    calls, fsync = [], os.fsync

    def second(handle):
        calls.append(handle)
        return full() if len(calls) == 2 else fsync(handle)

    monkeypatch.setattr(os, "fsync", second)
    with pytest.raises(OSError, match="cannot write"):
        model_of(CASES["distilbert-single"], SMALL).save_pretrained(folder)
    same(model, md.from_pretrained(folder))
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_folder_that_is_a_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("mine")
    with pytest.raises(OSError, match="cannot write"):
        model_of(CASES["distilbert-mlm"], SMALL).save_pretrained(path)
    with pytest.raises(OSError, match="cannot write"):
        model_of(CASES["distilbert-mlm"], SMALL).save_pretrained(path / "below")
    assert path.read_text() == "mine"
