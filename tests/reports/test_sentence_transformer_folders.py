"""Reports on folders of sentence-transformers: version 5.4's pooling_mode, the layout before
version 2.0, prompts, lower case. Authority: sentence-transformers 5.4.1, by reading its loaders."""

import json
import shutil

import numpy as np
import pytest

import minidistil as md
from minidistil.cli import main
from minidistil.config import DistilBertConfig
from minidistil.data.batches import Batching
from minidistil.model.pretrained import resolve, task_in
from minidistil.model.sentence.pooling import Pooling

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "good", "film", "query", ":", "Film"]
NEW = "sentence_transformers.base.modules.transformer.Transformer"
MODULES = [NEW, "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
           "sentence_transformers.sentence_transformer.modules.normalize.Normalize"]  # fmt: skip


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


@pytest.fixture
def folder(tmp_path):
    """A tiny DistilBERT as sentence-transformers 5.4 saves it: mean, normalised."""
    config = DistilBertConfig(vocab_size=len(WORDS), dim=8, n_layers=1, n_heads=2, hidden_dim=8,
                              max_position_embeddings=16)  # fmt: skip
    md.from_config(config, "feature-extraction").save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    write(tmp_path / "tokenizer_config.json", {"do_lower_case": False})
    modules = enumerate(zip(("", "1_Pooling", "2_Normalize"), MODULES, strict=True))
    write(
        tmp_path / "modules.json",
        [{"idx": i, "name": str(i), "path": p, "type": kind} for i, (p, kind) in modules],
    )
    write(tmp_path / "1_Pooling/config.json",
          {"embedding_dimension": 8, "pooling_mode": "mean", "include_prompt": True})  # fmt: skip
    write(tmp_path / "sentence_bert_config.json", {
        "transformer_task": "feature-extraction", "module_output_name": "token_embeddings",
        "modality_config": {"text": {"method": "forward",
                                     "method_output_name": "last_hidden_state"}},
    })  # fmt: skip
    return tmp_path


def vectors(folder, *texts, **options):
    predict = md.pipeline("sentence-embedding", folder, backend="numpy")
    return np.array(predict(list(texts), **options))


def test_pooling_as_version_5_4_writes_it(folder):
    """Was: "1_Pooling/config.json asks for no pooling", for every folder saved since 5.4.
    Right: pooling_mode, a name or a list of one; another mode is refused by name."""
    assert task_in(folder) == "sentence-embedding"
    assert Pooling.read(folder) == Pooling("mean", True)
    for mode in ("cls", ["cls"]):
        write(folder / "1_Pooling/config.json", {"embedding_dimension": 8, "pooling_mode": mode})
        assert Pooling.read(folder) == Pooling("cls", True)
    for mode in ("max", ["mean", "cls"], "lasttoken", [], 3, {}):
        write(folder / "1_Pooling/config.json", {"embedding_dimension": 8, "pooling_mode": mode})
        with pytest.raises(ValueError, match=r"1_Pooling.config\.json asks for .*; this version"):
            Pooling.read(folder)


STORED = {  # the first four numbers that 5.4.1's encode gives, with the prompt, in lower case
    "mean": [-0.37399942, 0.47108248, 0.42781860, -0.45200230],
    "cls": [-0.39307633, -0.13488862, 0.19583231, -0.65083550],
}


@pytest.mark.parametrize("mode", STORED)
def test_vectors_are_those_of_sentence_transformers(folder, mode):
    """Was: refused, or the vector of another text.
    Right: the numbers that sentence-transformers 5.4.1 gives for this very folder."""
    write(folder / "1_Pooling/config.json", {"embedding_dimension": 8, "pooling_mode": mode})
    said = {"prompts": {"query": "query: "}, "default_prompt_name": "query"}
    write(folder / "config_sentence_transformers.json", said)
    write(folder / "sentence_bert_config.json", {"max_seq_length": 16, "do_lower_case": True})
    np.testing.assert_allclose(vectors(folder, "A good Film")[0, :4], STORED[mode], atol=1e-6)


def test_the_layout_before_version_2(folder):
    """Was: config.json is missing, as it lies in 0_Transformer.
    Right: the same vectors, by the folder of the modules, in Python and in commands."""
    wanted = vectors(folder, "a good film")
    old = folder / "0_Transformer"
    old.mkdir()
    for name in ("config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json"):
        shutil.move(folder / name, old / name)
    (folder / "sentence_bert_config.json").unlink()
    write(old / "sentence_bert_config.json", {"max_seq_length": 5, "do_lower_case": False})
    modules = json.loads((folder / "modules.json").read_text())
    modules[0] |= {"path": "0_Transformer", "type": "sentence_transformers.models.Transformer"}
    write(folder / "modules.json", modules)
    assert resolve(folder) == old and task_in(old) == "sentence-embedding"
    assert Pooling.read(old) == Pooling("mean", True, 5)
    assert np.array_equal(vectors(folder, "a good film"), wanted)
    assert md.load_tokenizer(folder)(["film"])["input_ids"].tolist() == [[2, 7, 3]]
    model = md.from_pretrained(folder, task="sentence-embedding")
    model.save_pretrained(folder / "saved")
    assert Pooling.read(folder / "saved") == Pooling("mean", True, 5)


def test_prompts_stand_before_the_text(folder, capsys):
    """Was: prompts were passed over, and vectors of E5 and its like were those of other texts.
    Right: the default one before every text, another by its name, as encode does."""
    plain, behind = vectors(folder, "good film", "query: good film")
    said = {"prompts": {"query": "query: ", "document": None}, "default_prompt_name": None}
    write(folder / "config_sentence_transformers.json", said)
    assert np.array_equal(vectors(folder, "good film")[0], plain)
    assert np.array_equal(vectors(folder, "good film", prompt_name="query")[0], behind)
    write(folder / "config_sentence_transformers.json", said | {"default_prompt_name": "query"})
    assert np.array_equal(vectors(folder, "good film")[0], behind)
    assert np.array_equal(vectors(folder, "good film", prompt_name="document")[0], plain)
    with pytest.raises(ValueError, match="prompt 'passage' is not among query, document"):
        vectors(folder, "good film", prompt_name="passage")
    for text in ("", " "):
        with pytest.raises(ValueError, match="text 0 is empty"):
            vectors(folder, text)
    model = md.from_pretrained(folder, task="sentence-embedding")
    model.save_pretrained(folder / "saved")
    assert Pooling.read(folder / "saved") == model.pooling
    predict = ["predict", "--model", str(folder), "--backend", "numpy", "--json", "good film"]
    assert main([*predict, "--prompt-name", "document"]) == 0
    assert np.allclose(json.loads(capsys.readouterr().out), plain)


def test_search_takes_the_prompts_of_its_roles(folder):
    """Was: queries and items were read alike.
    Right: as encode_query and encode_document: "query"; "document", "passage" or "corpus"."""
    from minidistil.tasks.sentence_embedding.search_index import index_of

    write(folder / "config_sentence_transformers.json",
          {"prompts": {"query": "query: ", "passage": "a "}})  # fmt: skip
    predict = md.pipeline("sentence-embedding", folder, backend="numpy")
    assert predict.model.pooling.prompt_of("query") == "query"
    index, _ = index_of(["good film"], predict)
    assert np.allclose(index.vectors, vectors(folder, "a good film"))


def test_lower_case_before_the_tokenizer(folder):
    """Was: do_lower_case of sentence_bert_config.json was passed over.
    Right: texts are lower-cased first, whatever the tokenizer's own config says."""
    assert not np.array_equal(*vectors(folder, "Film", "film"))
    write(folder / "sentence_bert_config.json", {"max_seq_length": 16, "do_lower_case": True})
    assert np.array_equal(*vectors(folder, "Film", "film"))
    model = md.from_pretrained(folder, task="sentence-embedding")
    model.save_pretrained(folder / "saved")
    assert Pooling.read(folder / "saved").lower_case


def test_training_reads_texts_as_the_folder_says(folder):
    """Was: training and evaluation read other texts than predict does.
    Right: the default prompt and lower case hold there as well."""
    from minidistil.tasks.sentence_embedding.data import SentencePairs, in_lower_case

    tokenizer = in_lower_case(md.load_tokenizer(folder))
    data = SentencePairs([("Film", "good", 1.0)], tokenizer, Batching(64), prompt="query: ")
    batch = data.collate([0])
    assert batch["input_ids"].tolist() == [[[2, 8, 9, 7, 3], [2, 8, 9, 6, 3]]]
    again = in_lower_case(tokenizer)
    assert again.backend.normalizer.normalize_str("A") == "a"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("modules.json", {}, "modules.json must hold one JSON list"),
        ("modules.json", [3], "must list modules with a type"),
        ("modules.json", [{"type": NEW, "path": "../x"}], "must list modules with a type"),
        ("modules.json", [{"type": NEW}, {"type": "x.Router"}], "lists Transformer, Router"),
        ("1_Pooling/config.json", [], "must hold one JSON object"),
        ("sentence_bert_config.json", {"max_seq_length": "5"}, "max_seq_length must be 3 or more"),
        ("sentence_bert_config.json", {"max_seq_length": -1}, "max_seq_length must be 3 or more"),
        ("sentence_bert_config.json", {"do_lower_case": "no"}, "do_lower_case must be true or"),
        ("sentence_bert_config.json", {"modality_config": {"text": {"method_output_name": "x"}}},
         "must take last_hidden_state, not 'x'"),
        ("config_sentence_transformers.json", {"prompts": {"a": 3}}, "prompts must be texts"),
        ("config_sentence_transformers.json", {"default_prompt_name": "q"}, "'q' is not among"),
    ],
    ids=str,
)  # fmt: skip
def test_files_of_another_kind(folder, name, value, message):
    """Was: KeyError, TypeError, or a length that made every text one token.
    Right: one line that names the file and what must be there."""
    write(folder / name, value)
    with pytest.raises(ValueError, match=message) as caught:
        md.pipeline("sentence-embedding", folder)
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_a_prompt_that_is_not_pooled(folder):
    """Was: passed over.
    Right: include_prompt false leaves a prompt's tokens out of the mean; refused with prompts."""
    write(folder / "1_Pooling/config.json", {"pooling_mode": "mean", "include_prompt": False})
    assert Pooling.read(folder) == Pooling("mean", True)
    write(folder / "config_sentence_transformers.json", {"prompts": {"query": "query: "}})
    with pytest.raises(ValueError, match="include_prompt must be true"):
        Pooling.read(folder)
