"""Search from the command line and from Python, on a tiny model."""

import json
import shutil

import numpy as np
import pytest

from minidistil.cli import main
from minidistil.tasks.pipeline import pipeline
from minidistil.tasks.sentence_embedding.search_index import Index, index_of

ITEMS = ["the film was great", "what a dull plot", "we loved the actors", "awful to watch"]


@pytest.fixture
def items(tmp_path):
    path = tmp_path / "items.txt"
    path.write_text("\n".join(ITEMS))
    return path


def answer(capsys, *argv):
    assert main(["search", *map(str, argv), "--backend", "numpy", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_best_item_is_the_query_itself(world, items, capsys, tmp_path):
    common = "--items", items, "--model", world.teacher, "--index", tmp_path / "index.npz"
    found = answer(capsys, *common, "--top-k", 2, ITEMS[1], ITEMS[2])
    assert [a["found"][0]["item"] for a in found["answers"]] == [1, 2]
    assert found["answers"][0]["found"][0]["score"] == pytest.approx(1, abs=1e-5)
    assert all(len(a["found"]) == 2 for a in found["answers"]) and not found["index_reused"]
    (like,) = answer(capsys, *common, "--like", 3)["answers"]
    assert {row["item"] for row in like["found"]} == {0, 1, 2}


def test_the_index_is_made_anew_when_something_changed(world, items, capsys, tmp_path):
    common = "--items", items, "--model", world.teacher, "--index", tmp_path / "index.npz"
    assert not answer(capsys, *common, "dull")["index_reused"]
    assert answer(capsys, *common, "dull")["index_reused"]
    items.write_text("\n".join([*ITEMS, "one more"]))
    assert not answer(capsys, *common, "dull")["index_reused"]
    other = "--items", items, "--model", world.classifier, "--index", tmp_path / "index.npz"
    assert not answer(capsys, *other, "dull")["index_reused"]
    (tmp_path / "index.npz").write_bytes(b"")
    assert not answer(capsys, *other, "dull")["index_reused"]


def test_ranks_are_by_cosine():
    index = Index(list("abc"), np.array([[2.0, 0], [0, 5], [1, 1]]))
    found = index.search(np.array([[0.0, 3]]), top_k=9)[0]
    assert [row["text"] for row in found] == ["b", "c", "a"]
    np.testing.assert_allclose([row["score"] for row in found], [1, 0.5**0.5, 0], atol=1e-12)
    with pytest.raises(ValueError, match="counted from 0"):
        index.like(3)


@pytest.mark.filterwarnings("ignore")
def test_vectors_do_not_depend_on_their_neighbours(world, tmp_path):
    folder = shutil.copytree(world.teacher, tmp_path / "teacher")
    predict = pipeline("sentence-embedding", folder, backend="numpy")
    together = predict(ITEMS)
    for text, vector in zip(ITEMS, together, strict=True):
        np.testing.assert_allclose(predict(text), vector, atol=1e-5)
    hidden = np.array(pipeline("feature-extraction", folder, backend="numpy")(ITEMS[0])[0])
    mean = hidden.mean(axis=0)
    np.testing.assert_allclose(together[0], mean / np.linalg.norm(mean), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="no items"):
        index_of([], predict)
    with pytest.raises(ValueError, match="one folder"):
        pipeline("sentence-embedding", [folder, folder])


@pytest.mark.parametrize("argv", [(), ("x", "--like", "0"), ("x", "--top-k", "0"), ("--like", "9")])
def test_bad_input(world, items, capsys, argv):
    common = ["--items", str(items), "--model", world.teacher, "--backend", "numpy"]
    assert main(["search", *argv, *common, "--index", str(items.parent / "index.npz")]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error:")
