"""`minidistil prune-vocabulary`: a smaller folder that answers as before, or one clear line."""

import json
import re

import numpy as np
import pytest
from families_world import family_folder
from tokenizers import processors
from toy_tokenizers import byte_pairs

import minidistil as md
from minidistil.cli import main
from minidistil.data import Tokenizer
from minidistil.data.tokenizer_files import load_tokenizer


def run(capsys, argv):
    code = main(["prune-vocabulary", *map(str, argv), "--backend", "numpy", "--json"])
    return code, *capsys.readouterr()


def prune(capsys, *argv):
    code, out, err = run(capsys, argv)
    assert code == 0, err
    return json.loads(out)


def refused(capsys, *argv):
    code, _, err = run(capsys, argv)
    assert code == 2 and err.count("\n") == 1
    return err


def answers(folder, text, task):
    """The last hidden states of a text, and the logits of the pieces that it has."""
    tokenizer = load_tokenizer(folder)
    model, batch = md.from_pretrained(folder, task, backend="numpy"), tokenizer(text)
    result = model.forward(**batch)
    ids = batch["input_ids"][0]
    return result.last_hidden_state, result.logits[..., ids]


@pytest.mark.parametrize("kind", ["bert", "roberta", "albert"])
def test_a_text_of_the_data_has_the_same_answers(kind, world, tmp_path, capsys):
    folder, text = world.teacher, "the film was great"
    if kind != "bert":
        folder, text = family_folder(kind, tmp_path / kind), "the lazy dog"
    data = tmp_path / "data.txt"
    data.write_text(text)
    options = ("--data", data, "--pieces")
    least = re.search(r"are (\d+) of", refused(capsys, folder, *options, 1, "--out", "no"))
    least = int(least[1])
    out = tmp_path / "small"
    found = prune(capsys, folder, *options, least + 10, "--out", out)
    assert json.loads((out / "report.json").read_text()) == found and found["kept"] == 1
    assert found["pieces"]["after"] <= least + 10 < found["pieces"]["before"]
    for before, after in zip(*(answers(f, text, "fill-mask") for f in (folder, out)), strict=True):
        np.testing.assert_array_equal(before, after)
    sizes = found["parameters"]
    assert sizes["after"] == sum(p.size for p in md.from_pretrained(out).params.values())
    assert sizes["after"] < sizes["before"]


def test_gpt2_ends_where_it_ended(tmp_path, capsys):
    backend = byte_pairs(320).backend
    backend.post_processor = processors.ByteLevel()  # no special tokens around a text
    names = dict.fromkeys(("pad", "unk", "cls", "sep", "mask"), "</s>")
    tokenizer = Tokenizer(backend, names=names, max_length=32)
    end, folder = tokenizer.token_to_id("</s>"), tmp_path / "gpt2"
    config = md.Gpt2Config(
        vocab_size=tokenizer.vocab_size, n_positions=32, n_embd=16, n_layer=2, n_head=2,
        bos_token_id=end, eos_token_id=end,
    )  # fmt: skip
    md.from_config(config, backend="numpy").save_pretrained(folder)
    tokenizer.save(folder)
    (tmp_path / "data.txt").write_text("the lazy dog")
    out = tmp_path / "small"
    prune(capsys, folder, "--data", tmp_path / "data.txt", "--pieces", 280, "--out", out)
    small, fewer = md.from_pretrained(out, backend="numpy"), load_tokenizer(out)
    assert small.config.eos_token_id == small.config.bos_token_id == fewer.token_to_id("</s>")
    assert small.config.vocab_size == fewer.vocab_size <= 280


def test_columns_pairs_and_several_files(world, tmp_path, capsys):
    table = tmp_path / "pairs.csv"
    table.write_text("text,text_pair,label,note\nthe film,the actors,1,awful awful awful\n")
    options = ("--pieces", 10**6, "--out")

    def tokens(name, *data):
        found = prune(capsys, world.teacher, *data, *options, tmp_path / name)
        return found["tokens of the texts"]["before"]

    pair, note = tokens("a", "--data", table), tokens("b", "--data", table, "--text-column", "note")
    both = tokens("c", "--data", table, "--text-column", "note", "--text-column", "text")
    twice = tokens("d", "--data", table, "--data", table)
    assert pair and note and both > note and twice == 2 * pair


def test_refused(world, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["quantize", "--model", world.teacher, "--out", str(tmp_path / "int8")]) == 0
    capsys.readouterr()
    argv = ("--data", world.text, "--out", out)
    assert "remove words first, then quantise" in refused(capsys, tmp_path / "int8", *argv)
    assert "no data at" in refused(capsys, world.teacher, "--data", "gone.txt", "--out", out)
    assert "too few" in refused(capsys, world.teacher, "--pieces", 0, *argv)
    assert not out.exists()


def test_another_library_reads_the_folder(world, tmp_path, capsys):
    transformers = pytest.importorskip("transformers")
    out = tmp_path / "small"
    prune(capsys, world.teacher, "--data", world.text, "--pieces", 120, "--out", out)
    theirs, ours = transformers.AutoTokenizer.from_pretrained(out), load_tokenizer(out)
    for text in ("the film was great", "a quickest fox"):
        assert theirs(text)["input_ids"] == ours(text)["input_ids"][0].tolist()
    model = transformers.AutoModelForMaskedLM.from_pretrained(out)
    assert model.config.vocab_size == ours.vocab_size
