"""Prompts: what a decoder continues, whatever tokenizer it reads with."""

import json

import pytest
from tokenizers import processors
from toy_tokenizers import byte_pairs

import minidistil as md
from minidistil.cli import main
from minidistil.config import Gpt2Config
from minidistil.data.tokenizer import SPECIAL, Tokenizer
from minidistil.data.wordpiece import wordpiece
from minidistil.model.generation.generate_texts import generate
from minidistil.tasks.pipeline import pipeline
from minidistil.tasks.text_generation.predictor import TextGeneration

WORDS = [*SPECIAL.values(), "the", "cat", "sat", "##s", "on", "mat", ".", "a"]
TEXT = "The cats sat"
IDS = [5, 6, 8, 7]


def tokenizer():
    """A BERT's: [CLS] the cat ##s sat [SEP]."""
    words = {word: i for i, word in enumerate(WORDS)}
    return Tokenizer(wordpiece(words, SPECIAL, lowercase=True), max_length=16)


def writer(reader, **fields):
    config = Gpt2Config(vocab_size=reader.vocab_size, n_positions=reader.max_length, n_embd=16,
                        n_layer=1, n_head=2, bos_token_id=2, eos_token_id=3, **fields)  # fmt: skip
    model = md.from_config(config, seed=1, backend="numpy")
    model.update({n: 12 * p for n, p in model.params.items() if p.ndim == 2})  # no flat answers
    return model


def test_a_gpt2_with_a_berts_vocabulary_continues_the_prompt():
    """Was: [CLS] the cat ##s sat [SEP], and what follows [SEP]: the beginning of another text.
    Right: what follows "sat". Training has texts between ⟨end⟩s, and never a [CLS]."""
    reader = tokenizer()
    model = writer(reader)
    predict = TextGeneration(model, reader)
    assert [list(ids) for ids in predict.prompts([TEXT, "the mat"])] == [IDS, [5, 10]]
    (words,) = generate(model, [IDS], max_new_tokens=6, eos=3)
    (answer,) = predict(TEXT, max_new_tokens=6)
    assert answer["generated_text"] == reader.decode([*IDS, *words])
    assert answer["generated_text"].startswith("the cats sat")


def test_what_is_shown_word_by_word_is_the_whole(tmp_path, capsys):
    """Was: the words that follow were put to the prompt without a space, "the catsat".
    Right: the same text as all at once, behind the prompt as it was given."""
    reader = tokenizer()
    for seed in range(5):
        predict = TextGeneration(writer(reader), reader)
        options = {"temperature": 3.0, "seed": seed, "max_new_tokens": 9, "eos": None}
        (answer,) = predict(TEXT, **options)
        pieces = list(predict.pieces(TEXT, **options))
        assert "the cats sat" + "".join(pieces) == answer["generated_text"]
        assert len(pieces) > 2
    predict.model.save_pretrained(tmp_path)
    reader.save(tmp_path)
    argv = ["generate", TEXT, "--model", str(tmp_path), "--backend", "numpy",
            "--max-new-tokens", "4"]  # fmt: skip
    assert main(argv) == 0
    shown = capsys.readouterr().out
    assert main([*argv, "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert shown.lower().strip() == answer["generated_text"]


def test_a_prompt_has_all_positions():
    """Was: [CLS] and [SEP] took two of them.
    Right: 16 positions read 16 pieces, and 17 are refused."""
    reader = tokenizer()
    predict = TextGeneration(writer(reader), reader)
    (answer,) = predict("cat " * 16, max_new_tokens=1)
    assert answer["generated_text"].startswith("cat " * 15 + "cat")
    with pytest.raises(ValueError, match="text 1 is longer than the model's 16 tokens"):
        predict(["cat", "cat " * 17])


def test_an_end_before_a_text_stays():
    """Was and is: a GPT-2 whose tokenizer puts ⟨end⟩ before a text (add_bos_token) reads it.
    Right: so it was trained; RoBERTa's <s> and </s> around a text are none of it."""
    reader = byte_pairs(max_length=32)
    predict = TextGeneration(writer(reader), reader)
    content = reader.content(["quick fox"])[0]
    assert list(predict.prompts(["quick fox"])[0]) == content
    reader.backend.post_processor = processors.TemplateProcessing(
        single="</s> $A", special_tokens=[("</s>", reader.sep_id)]
    )
    assert list(predict.prompts(["quick fox"])[0]) == [reader.sep_id, *content]


def test_repetition_on_the_command_line(tmp_path, capsys):
    """Was: no options for it.
    Right: generate and predict take them as Python does, and the folder's file gives defaults."""
    reader = tokenizer()
    model = writer(reader)
    model.save_pretrained(tmp_path)
    reader.save(tmp_path)
    options = {"repetition_penalty": 1.5, "no_repeat_ngram_size": 2, "num_beams": 2}
    wanted = pipeline("text-generation", tmp_path, backend="numpy")(TEXT, max_new_tokens=6,
                                                                    **options)  # fmt: skip
    given = [x for n, v in options.items() for x in (f"--{n.replace('_', '-')}", str(v))]
    common = [TEXT, "--model", str(tmp_path), "--backend", "numpy", "--max-new-tokens", "6"]
    assert main(["generate", *common, *given, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == wanted
    assert main(["generate", *common, *given]) == 0
    assert capsys.readouterr().out.strip() == wanted[0]["generated_text"]
    assert main(["predict", *common, *given, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [wanted]
    (tmp_path / "generation_config.json").write_text(json.dumps(options))
    assert main(["generate", *common]) == 0
    assert capsys.readouterr().out.strip() == wanted[0]["generated_text"]
    assert main(["generate", *common, "--repetition-penalty", "0"]) == 2
    assert "repetition_penalty must be a number above 0, not 0" in capsys.readouterr().err
