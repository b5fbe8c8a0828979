"""Reports on files that ask for more memory than they are worth: sizes in a config, headers of
weights, what is no regular file. Nothing of the asked size is allocated before it is refused."""

import json
import os
import tracemalloc

import numpy as np
import pytest
from image_cases import CASES as IMAGE_CASES
from image_cases import model_of as image_model
from model_cases import CASES, SMALL, model_of
from safetensors.numpy import load_file, save_file

import minidistil as md
from minidistil.config import FAMILIES
from minidistil.model import params

LARGE = 2**31 - 1
SMALL_PEAK = 2**25  # bytes that a refusal may take


@pytest.fixture
def sparing():
    """The test ends with at most SMALL_PEAK bytes more at its peak than before."""
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    yield
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak - before < SMALL_PEAK


def folder_of(name, tmp_path):
    """A saved case, its model."""
    model = model_of(CASES[name], SMALL)
    model.save_pretrained(tmp_path / name)
    return tmp_path / name, model


def edit_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refusal(call, *args, **options):
    with pytest.raises(ValueError) as caught:
        call(*args, **options)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500 + len(str(args[0]))
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("bert-mlm", {"vocab_size": 10**8}, "expected (100000000, 9)"),
        ("bert-mlm", {"max_position_embeddings": 10**8}, "expected (100000000, 9)"),
        ("bert-mlm", {"intermediate_size": 10**8}, "expected (100000000,)"),
        ("bert-mlm", {"num_hidden_layers": 10**9}, "at most 4096 layers, not 1000000000"),
        ("bert-mlm", {"num_hidden_layers": 10**30}, "num_hidden_layers must be at most 2147483647"),
        ("albert-mlm", {"inner_group_num": 10**9}, "at most 4096 layers, not 2000000000"),
        ("gpt2-words", {"n_layer": LARGE}, "at most 4096 layers"),
        ("gpt2-words", {"num_hidden_layers": LARGE, "n_layer": None}, "at most 4096 layers"),
        ("bert-mlm", {"num_labels": 10**9, "id2label": None}, "num_labels must be at least 1 and"),
        ("distilbert-mlm", {"dim": 3 * 10**8}, "(23, 300000000)"),
    ],
    ids=str,
)
def test_a_config_is_compared_with_the_weights_first(tmp_path, sparing, name, changes, message):
    """Was: a config of 580 bytes beside small weights took 5 GB, and layers 10**9 never ended.
    Right: the sizes are compared with the header of the weights before anything is allocated."""
    folder, _ = folder_of(name, tmp_path)
    edit_config(folder, **changes)
    assert message in refusal(md.from_pretrained, folder)


def test_a_new_head_is_bounded_too(tmp_path, sparing, monkeypatch):
    """Was: a head for a million labels was drawn without a word.
    Right: what a folder lacks is counted before it is drawn; the bound is named."""
    folder, _ = folder_of("bert-body", tmp_path)
    edit_config(folder, architectures=["BertForSequenceClassification"])
    task = {"task": "text-classification"}
    message = refusal(md.from_pretrained, folder, **task, num_labels=2**18 + 1)
    assert "num_labels must be" in message
    monkeypatch.setattr(params.check_size, "__defaults__", (10_000,))
    message = refusal(md.from_pretrained, folder, **task, num_labels=1000)
    assert "bytes of new parameters, and max_bytes is 10,000" in message


@pytest.mark.parametrize("case", IMAGE_CASES, ids=str)
def test_images_sizes_too(tmp_path, sparing, case):
    """Was: the whole model was drawn from the seed before it was compared with the folder.
    Right: as for texts."""
    image_model(*case).save_pretrained(tmp_path)
    edit_config(tmp_path, intermediate_size=10**8)
    assert "expected (100000000" in refusal(md.from_pretrained, tmp_path)


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"encoder-decoder"}))
def test_from_config_names_its_bound(sparing, family):
    """Was: from_config took whatever a config asks for.
    Right: max_bytes, 8 GiB unless more is allowed, counted before the first parameter."""
    channels = {"gpt2": "n_embd", "distilbert": "dim"}.get(family, "hidden_size")
    config = FAMILIES[family](**{channels: 12 * 2**14})
    assert "and max_bytes is 8,589,934,592; give" in refusal(md.from_config, config)
    assert "max_bytes is 1,000;" in refusal(md.from_config, FAMILIES[family](), max_bytes=1000)


@pytest.mark.parametrize("length", [2**24 + 1, 2**63])
def test_a_header_has_a_bound(tmp_path, sparing, length):
    """Was: the whole file was read before its header was looked at.
    Right: the header's length is compared with its bound of 2**24 bytes before it is read."""
    folder, _ = folder_of("bert-mlm", tmp_path)
    path = folder / "model.safetensors"
    with open(path, "r+b") as file:
        file.write(length.to_bytes(8, "little"))
        file.truncate(2**26)
    assert f"a header of {length} bytes" in refusal(md.from_pretrained, folder)


@pytest.mark.parametrize(
    "header",
    [b"[]", b'{"a": 3}', b'{"a": {"dtype": "F32"}}', b"[" * 10**5,
     b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}'],
)  # fmt: skip
def test_a_header_of_another_kind(tmp_path, header):
    """Was: untested for these. Right: one line that names the file."""
    folder, _ = folder_of("bert-mlm", tmp_path)
    path = folder / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    assert "model.safetensors is not a whole safetensors file" in refusal(
        md.from_pretrained, folder
    )


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_pipe_is_not_waited_for(tmp_path, name):
    """Was: from_pretrained waited for ever for a writer into the pipe.
    Right: what is no regular file is refused."""
    folder, _ = folder_of("bert-mlm", tmp_path)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert f"{name} is not a regular file" in refusal(md.from_pretrained, folder)


@pytest.mark.parametrize("text", ["[" * 10**5, '{"model_type": "bert", "a": ' + "1" * 5000 + "}"])
def test_json_beyond_python_s_bounds(tmp_path, text):
    """Was: RecursionError, and a ValueError that named no file.
    Right: one line that names the file."""
    folder, _ = folder_of("bert-mlm", tmp_path)
    (folder / "config.json").write_text(text)
    assert "config.json is not JSON" in refusal(md.from_pretrained, folder)


def test_a_settings_file_has_a_bound(tmp_path, sparing):
    """Was: a config.json of any size was read.
    Right: at most 2**26 bytes."""
    folder, _ = folder_of("bert-mlm", tmp_path)
    with open(folder / "config.json", "r+b") as file:
        file.truncate(2**26 + 1)
    assert "a settings file has at most 67108864" in refusal(md.from_pretrained, folder)


def test_a_head_that_is_not_used_is_not_read(tmp_path):
    """Was: a tensor of a type that is no number's was refused in whatever place it stood.
    Right: what the task does not use is not read, and said to be left out."""
    folder, model = folder_of("bert-single", tmp_path)
    path = folder / "model.safetensors"
    save_file(load_file(path) | {"extra.bits": np.ones(3, np.uint8)}, path)
    with pytest.warns(UserWarning, match="does not use extra"):
        again = md.from_pretrained(folder)
    assert all(np.array_equal(x, again.params[n]) for n, x in model.params.items())
