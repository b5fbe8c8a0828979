"""Tokenizers that were saved here and read by transformers, and folders that it wrote itself."""

import json
from importlib.util import find_spec

import pytest
from hypothesis import given
from random_tokenizers import every, texts
from tokenizers import normalizers
from toy_tokenizers import TEXTS, byte_pairs

import minidistil as md
from minidistil.data import Tokenizer, load_tokenizer, train_byte_pairs, train_wordpiece
from minidistil.data.tokenizer_kinds import GPT2, wordpiece
from minidistil.data.tokenizer_kinds import byte_pairs as built
from minidistil.tasks.pipeline import pipeline

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "fox", "café", "cafe", "狐", "##s"]
NUMBERS = iter(range(10**6))  # of folders


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("saved")


@pytest.fixture
def theirs():
    """transformers' ids of a text, or of a pair, with a folder's tokenizer; where it is not
    installed ours, so that the stored ids are compared all the same."""
    if find_spec("transformers") is None:
        return ours
    from transformers import AutoTokenizer

    read = AutoTokenizer.from_pretrained
    return lambda folder, *text, **options: read(folder)(*text, **options)["input_ids"]


def ours(folder, *text, truncation=True):
    return load_tokenizer(folder)(*text)["input_ids"][0].tolist()


def config_of(folder):
    return json.loads((folder / "tokenizer_config.json").read_text())


def vocabulary(folder, pieces=PIECES, **config):
    """A folder as it was written before there was a tokenizer.json."""
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in pieces))
    config = {"tokenizer_class": "BertTokenizer", "do_lower_case": False, **config}
    write(folder, "tokenizer_config.json", config)
    return folder


def write(folder, name, value):
    (folder / name).write_text(json.dumps(value))


# ------------------------------------------------------- what save writes


@given(tokenizer=every, text=texts, pair=texts)
def test_a_saved_tokenizer_is_the_same_one(home, tokenizer, text, pair):
    """Was: this held (tokenizer.json is whole), for tokenizers with all five special tokens.
    Right: what is saved and loaded gives the same ids, for every kind of tokenizer."""
    folder = home / str(next(NUMBERS))
    tokenizer.save(folder)
    for inputs in ((text,), (text, pair)):
        assert ours(folder, *inputs) == tokenizer(*inputs)["input_ids"][0].tolist()


@given(tokenizer=every, text=texts, pair=texts)
def test_transformers_reads_the_same_ids(home, tokenizer, text, pair):
    """Was: the class was told from the kind of model alone, and with it went the normaliser.
    Right: AutoTokenizer gives the ids that were given here, for every kind of tokenizer."""
    read = pytest.importorskip("transformers").AutoTokenizer.from_pretrained
    folder = home / str(next(NUMBERS))
    tokenizer.save(folder)
    back = read(folder)
    for inputs in ((text,), (text, pair)):
        mine = tokenizer(*inputs)["input_ids"][0].tolist()
        assert back(*inputs, truncation=True)["input_ids"] == mine, config_of(folder)


def test_a_gpt2_with_padding_of_its_own(tmp_path, theirs):
    """Was: two special tokens made it a RobertaTokenizer, which puts <s> and </s> around a text.
    Right: GPT2Tokenizer, which adds nothing, as transformers says of the same tokenizer."""
    backend = train_byte_pairs(TEXTS * 2, 270).backend
    backend.add_special_tokens(["[PAD]"])
    Tokenizer(backend, names={**GPT2, "pad": "[PAD]"}).save(tmp_path)
    assert config_of(tmp_path)["tokenizer_class"] == "GPT2Tokenizer"
    assert ours(tmp_path, "The fox") == theirs(tmp_path, "The fox")
    assert ours(tmp_path, "The fox")[0] == ours(tmp_path, "The")[0]


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("accents", [True, False])
@pytest.mark.parametrize("chinese", [True, False])
def test_options_of_the_normaliser(tmp_path, theirs, lower, accents, chinese):
    """Was: strip_accents and tokenize_chinese_chars were not saved, and do_lower_case was true.
    Right: BertTokenizer's options are what the normaliser does: it is built from them alone."""
    names = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    pieces = {piece: i for i, piece in enumerate(PIECES)}
    options = {"lowercase": lower, "strip_accents": accents, "chinese": chinese}
    Tokenizer(wordpiece(pieces, names, **options)).save(tmp_path)
    said = config_of(tmp_path)
    assert said["tokenizer_class"] == "BertTokenizer"
    assert [said[k] for k in ("do_lower_case", "strip_accents", "tokenize_chinese_chars")] == [
        lower, accents, chinese
    ]  # fmt: skip
    text = "Fox café a狐"
    assert ours(tmp_path, text) == theirs(tmp_path, text)
    fox, cafe = 6 if lower else 1, 8 if accents else 7
    assert ours(tmp_path, text) == [2, fox, cafe, *((5, 9) if chinese else (1,)), 3]


def test_another_normaliser(tmp_path, theirs):
    """Was: a BertTokenizer, whose class replaces NFKC by a normaliser of its own.
    Right: PreTrainedTokenizerFast, which reads tokenizer.json as it stands."""
    tokenizer = train_wordpiece(TEXTS, 100, min_frequency=1)
    tokenizer.backend.normalizer = normalizers.NFKC()
    tokenizer.save(tmp_path)
    assert config_of(tmp_path)["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert not load_tokenizer(tmp_path).lowercase and tokenizer("ﬁ")["input_ids"].shape == (1, 4)
    assert ours(tmp_path, "The ﬁ fox") == theirs(tmp_path, "The ﬁ fox")


def test_the_space_before_the_first_word(tmp_path, theirs):
    """Was: add_prefix_space was not saved, so that transformers read the first word without it.
    Right: the option is that of the pre-tokeniser."""
    tokenizer = byte_pairs()
    tokenizer.backend.pre_tokenizer.add_prefix_space = True
    tokenizer.save(tmp_path)
    assert config_of(tmp_path)["add_prefix_space"] is True
    assert ours(tmp_path, "fox") == theirs(tmp_path, "fox") == ours(tmp_path, " fox")


def test_the_side_that_is_cut(tmp_path, theirs):
    """Was: truncation_side was not read, and a long text lost its end where its beginning goes.
    Right: as transformers cuts it, and saved again."""
    folder = vocabulary(tmp_path / "a", truncation_side="left", model_max_length=4)
    text = "fox a 狐"
    load_tokenizer(folder).save(tmp_path / "b")
    for path in (folder, tmp_path / "b"):
        assert ours(path, text) == theirs(path, text, truncation=True) == [2, 5, 9, 3]


# ------------------------------------------------------- what load reads


def test_added_tokens_beside_a_vocabulary(tmp_path, theirs):
    """Was: added_tokens.json was not read; its pieces were cut, and their rows never used.
    Right: they have the ids of the file, as in transformers."""
    folder = vocabulary(tmp_path)
    write(folder, "added_tokens.json", {"<b>": 12, "<a>": 11})
    assert ours(folder, "a <b> fox<a>") == theirs(folder, "a <b> fox<a>") == [2, 5, 12, 6, 11, 3]


def test_added_tokens_decoder_beside_a_vocabulary(tmp_path, theirs):
    """Was: added_tokens_decoder of tokenizer_config.json was not read.
    Right: its pieces, with their flags, stand beside those of vocab.txt; added_tokens.json does
    not count where there is one."""
    added = {"11": {"content": "<b>", "lstrip": True, "special": True}, "12": {"content": "Fox"}}
    folder = vocabulary(tmp_path, added_tokens_decoder=added)
    write(folder, "added_tokens.json", {"<a>": 11})
    text = "a <b> Fox Foxs"
    assert ours(folder, text) == theirs(folder, text) == [2, 5, 11, 12, 12, 1, 3]


def test_ids_that_do_not_follow(tmp_path):
    """Was: the id of an added token was not read. (transformers gives it another one in silence.)
    Right: an id that the tokenizer cannot give is refused with both numbers."""
    folder = vocabulary(tmp_path)
    write(folder, "added_tokens.json", {"<a>": 40})
    with pytest.raises(ValueError, match="'<a>' the id 40, but beside the vocabulary it is 11"):
        load_tokenizer(folder)


def test_special_tokens_map(tmp_path, theirs):
    """Was: special_tokens_map.json was not read: "the vocabulary has no pad token '[PAD]'".
    Right: its names go before those of tokenizer_config.json."""
    pieces = ["<pad>" if piece == "[PAD]" else piece for piece in PIECES]
    folder = vocabulary(tmp_path, pieces, pad_token="[PAD]", additional_special_tokens=["fox"])
    write(folder, "special_tokens_map.json", {"pad_token": {"content": "<pad>", "lstrip": False}})
    tokenizer = load_tokenizer(folder)
    assert tokenizer.pad_id == 0 and 6 in tokenizer.special_ids
    assert ours(folder, "a <pad> foxs") == theirs(folder, "a <pad> foxs") == [2, 5, 0, 6, 1, 3]


def test_tokens_without_an_id_fill_the_rows_of_the_model(tmp_path):
    """Was: a special token that the vocabulary does not hold was cut into pieces.
    Right: it follows the others, as in transformers, while the model has a row for it."""
    folder = vocabulary(tmp_path, extra_special_tokens=["<a>", "<b>"])
    write(folder, "config.json", {"model_type": "distilbert", "vocab_size": 12})
    assert ours(folder, "<a>") == [2, 11, 3]
    assert 12 not in ours(folder, "<b>")


@pytest.mark.parametrize("named", [True, False])
def test_a_classifier_needs_no_mask(tmp_path, theirs, named):
    """Was: "the vocabulary has no mask token '[MASK]'", for a model that fills none.
    Right: it classifies as it does in transformers; what masks words refuses it in one line."""
    pieces = [piece for piece in PIECES if piece != "[MASK]"]
    folder = vocabulary(tmp_path / "a", pieces, **({"mask_token": "[MASK]"} if named else {}))
    sizes = {"n_layers": 1, "dim": 8, "hidden_dim": 8, "n_heads": 2, "max_position_embeddings": 16}
    config = md.DistilBertConfig(vocab_size=len(pieces), **sizes)
    for task in ("text-classification", "fill-mask"):
        md.from_config(config, task).save_pretrained(folder)
        if task == "text-classification":
            assert len(pipeline(task, folder)(["a fox", "a"])) == 2
        else:
            with pytest.raises(ValueError, match="the tokenizer has no mask token"):
                pipeline(task, folder)("a fox")
    load_tokenizer(folder).save(tmp_path / "b")
    for path in (folder, tmp_path / "b"):
        assert ours(path, "a foxs") == theirs(path, "a foxs") == [2, 4, 5, 9, 3]
    assert "[MASK]" not in load_tokenizer(tmp_path / "b").get_vocab()


def test_options_go_before_tokenizer_json(tmp_path, theirs):
    """Was: do_lower_case and add_prefix_space had no effect beside a tokenizer.json.
    Right: the class that is named takes its options from tokenizer_config.json."""
    train_wordpiece(TEXTS, 150, lowercase=False, min_frequency=1).save(tmp_path / "a")
    byte_pairs().save(tmp_path / "b")
    changes = {
        "a": {"do_lower_case": True, "strip_accents": False},
        "b": {"add_prefix_space": True},
    }
    for name, options in changes.items():
        write(tmp_path / name, "tokenizer_config.json", config_of(tmp_path / name) | options)
        text = "The FOX in Café"
        assert ours(tmp_path / name, text) == theirs(tmp_path / name, text)
    assert ours(tmp_path / "a", "FOX") == ours(tmp_path / "a", "fox")
    assert ours(tmp_path / "b", "fox") == ours(tmp_path / "b", " fox")


def test_marks_in_the_vocabulary_are_no_reason_to_add_them(tmp_path, theirs):
    """Was: a GPT-2 whose vocab.json holds "<s>" was read as a RoBERTa and got <s> and </s>.
    Right: the class that tokenizer_config.json names decides."""
    byte_pairs().save(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    names = {f"{role}_token": "<s>" for role in ("bos", "eos", "unk")}
    write(tmp_path, "tokenizer_config.json", {"tokenizer_class": "GPT2Tokenizer", **names})
    assert ours(tmp_path, "The fox") == theirs(tmp_path, "The fox")
    assert ours(tmp_path, "The fox")[0] != 0


def test_a_vocabulary_of_another_class(tmp_path):
    """Was: the vocab.txt of a BertJapaneseTokenizer was read by BERT's rules: most words unknown.
    Right: a class that cuts texts in its own way is refused by name."""
    folder = vocabulary(tmp_path, tokenizer_class="BertJapaneseTokenizer")
    with pytest.raises(ValueError, match="tokenizer_class is for bertjapanese, which reads vocab"):
        load_tokenizer(folder)


def test_the_name_of_a_special_token_as_text(tmp_path, theirs):
    """Was: split_special_tokens was not read.
    Right: with it a text cannot hold a special token, as in transformers, and saved again."""
    folder = vocabulary(tmp_path / "a", [*PIECES, "[", "]", "SEP"], split_special_tokens=True)
    load_tokenizer(folder).save(tmp_path / "b")
    for path in (folder, tmp_path / "b"):
        assert ours(path, "a [SEP]") == theirs(path, "a [SEP]") == [2, 5, 11, 13, 12, 3]


def test_models_that_read_a_text_alike(tmp_path):
    """Was: tokenizers of one vocabulary were the same, and an ensemble of a model that lower-cases
    and one that does not read the ids of the first with both.
    Right: they differ, and are refused."""
    for name, lower in (("a", True), ("b", False), ("c", True)):
        folder = vocabulary(tmp_path / name, do_lower_case=lower)
        sizes = {"n_layers": 1, "dim": 8, "hidden_dim": 8, "n_heads": 2}
        config = md.DistilBertConfig(vocab_size=len(PIECES), max_position_embeddings=16, **sizes)
        md.from_config(config, "text-classification").save_pretrained(folder)
    folders = [tmp_path / "a", tmp_path / "c"]
    assert pipeline("text-classification", folders)("a fox")
    with pytest.raises(ValueError, match="must have the same preprocessor"):
        pipeline("text-classification", [*folders, tmp_path / "b"])


def test_a_mask_that_is_null(tmp_path, theirs):
    """Was: "[MASK]" in a text was the mask of the vocabulary, although tokenizer_config.json says
    that there is none.
    Right: text, as in transformers."""
    folder = vocabulary(tmp_path, [*PIECES, "[", "]", "mask"], mask_token=None, do_lower_case=True)
    assert ours(folder, "[MASK]") == theirs(folder, "[MASK]") == [2, 11, 13, 12, 3]


def test_the_ends_of_a_gpt2(tmp_path, theirs):
    """Was: a GPT-2 whose vocabulary has RoBERTa's names, too, took them for its own: "<mask>" in a
    text was one piece.
    Right: its special tokens are those of tokenizer_config.json, bos and eos."""
    toy = byte_pairs().backend
    backend = built(toy.model, {"cls": "Ġ"}, prefix=False, ends=False)
    backend.save(str(tmp_path / "tokenizer.json"))
    names = {"bos_token": "Ġ", "eos_token": "Ġthe", "unk_token": "Ġ"}
    write(tmp_path, "tokenizer_config.json", {"tokenizer_class": "GPT2Tokenizer", **names})
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.names == {"pad": "Ġthe", "unk": "Ġ", "cls": "Ġ", "sep": "Ġthe", "mask": "Ġthe"}
    assert ours(tmp_path, "a <mask>") == theirs(tmp_path, "a <mask>")
    assert len(ours(tmp_path, "<mask>")) == 6
