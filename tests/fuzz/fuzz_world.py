"""Models and data of every task, as small as they can be, and a valid command line for each use.

`build(home)` writes them once. The fuzzer copies them, damages the copy or the command line, and
runs the command.
"""

import dataclasses
import json
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors.numpy import save_file
from toy_tokenizers import byte_pairs, unigrams

import minidistil as md
from minidistil.check.reference_batch import example, load
from minidistil.check.trace_values import trace
from minidistil.data import train_byte_pairs, train_wordpiece
from minidistil.model.sentence.sentence_model import Pooling

TEXT = [
    "the film was great and we loved the actors in it",
    "what a dull plot, awful to watch",
    "a plot of great actors; the film was dull",
    "we loved what it was: awful and great",
]
SIZES = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
         "intermediate_size": 12, "max_position_embeddings": 40}  # fmt: skip
VIT = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12,
       "image_size": 4, "patch_size": 2, "num_channels": 1}  # fmt: skip
HEADS = {"mlm": "fill-mask", "classifier": "text-classification", "vectors": "feature-extraction",
         "tagger": "token-classification", "answers": "question-answering",
         "chooser": "multiple-choice"}  # fmt: skip
KINDS, TAGS = ("bad", "good"), ("O", "B-person", "I-person", "B-work")


class Use(NamedTuple):
    """A command that works, started in a copy of the files that it reads."""

    argv: tuple
    files: tuple  # models and data, relative to the world


def build(home):
    """Writes the models and the data of `USES` into the folder home."""
    home, rng = Path(home), np.random.default_rng(0)
    tokenizer = train_wordpiece(TEXT * 4, 120)
    config = md.BertConfig(vocab_size=tokenizer.vocab_size, **SIZES)
    small = md.DistilBertConfig(
        vocab_size=tokenizer.vocab_size, dim=8, n_layers=2, n_heads=2, hidden_dim=12,
        max_position_embeddings=40,
    )  # fmt: skip
    for name, task in HEADS.items():
        names = TAGS if name == "tagger" else KINDS
        _save(md.from_config(_labelled(config, names), task), home / name, tokenizer)
    student = md.from_config(_labelled(small, KINDS), "text-classification")
    _save(student, home / "student", tokenizer)
    Pooling(max_length=40).write(home / "vectors", config.hidden_size)
    for name, config, reader, names, task in (
        ("roberta", md.RobertaConfig, byte_pairs(max_length=36), TAGS, "token-classification"),
        ("words", md.RobertaConfig, byte_pairs(max_length=36), KINDS, "fill-mask"),
        ("albert", md.AlbertConfig, unigrams(max_length=40), KINDS, "text-classification"),
    ):
        numbers = config(vocab_size=reader.vocab_size, pad_token_id=reader.pad_id, **SIZES)
        _save(md.from_config(_labelled(numbers, names), task), home / name, reader)
    pairs = train_byte_pairs(TEXT * 4, 280)
    gpt2 = md.Gpt2Config(vocab_size=pairs.vocab_size, n_positions=40, n_embd=8, n_layer=2, n_head=2,
                         bos_token_id=0, eos_token_id=0)  # fmt: skip
    _save(md.from_config(gpt2, "text-generation"), home / "gpt2", pairs)
    encoder = md.from_pretrained(home / "mlm")
    start, end = tokenizer.cls_id, tokenizer.sep_id
    _save(md.encoder_decoder_from(encoder, start=start, eos=end), home / "translator", tokenizer)
    _data(home, rng)


def _labelled(config, names):
    return dataclasses.replace(config, num_labels=len(names), id2label=names)


def _save(model, folder, tokenizer):
    model.save_pretrained(folder)
    tokenizer.save(folder)


def _data(home, rng):
    lines = [TEXT[i % 4] + " film" * (i % 5) for i in range(24)]
    names = [("good", "bad")[i % 2] for i in range(24)]
    (home / "text.txt").write_text("\n".join(lines))
    (home / "masked.txt").write_text("\n".join(f"{line} [MASK]" for line in lines))
    (home / "labelled.tsv").write_text(
        "text\tlabel\n" + "".join(f"{x}\t{y}\n" for x, y in zip(lines, names, strict=True))
    )
    _json_lines(home / "labelled.jsonl", [
        {"text": x, "label": y} for x, y in zip(lines, names, strict=True)])  # fmt: skip
    (home / "labelled.csv").write_text(
        "text,label\n" + "".join(f'"{x}",{i % 2}\n' for i, x in enumerate(lines))
    )
    (home / "pairs.tsv").write_text("sentence1\tsentence2\tscore\n" + "".join(
        f"{x}\t{y}\t{i % 6}\n" for i, (x, y) in enumerate(pairwise(lines))
    ))  # fmt: skip
    tags = (*TAGS, "O")
    (home / "tags.conll").write_text("\n\n".join(
        "\n".join(f"{w}\t{tags[i % 5]}" for i, w in enumerate(line.split())) for line in lines
    ))  # fmt: skip
    asked = [{"id": f"{i}", "question": "what was great", "answers": [
        {"text": line.split()[1], "answer_start": line.index(line.split()[1])}]}
        for i, line in enumerate(lines)]  # fmt: skip
    asked[3] = {"id": "none", "question": "who", "answers": [], "is_impossible": True}
    (home / "squad.json").write_text(
        json.dumps(
            {
                "data": [
                    {"paragraphs": [{"context": x, "qas": [q]}]}
                    for x, q in zip(lines, asked, strict=True)
                ]
            }
        )
    )
    _json_lines(home / "choices.jsonl", [
        {"question": "which", "choices": TEXT[:3], "label": i % 3} for i in range(24)])  # fmt: skip
    _json_lines(home / "documents.jsonl", [
        {"document": TEXT[: 2 + i % 3], "summary": TEXT[i % 2]} for i in range(24)])  # fmt: skip
    (home / "targets.txt").write_text("\n".join(line.upper() for line in lines))
    images = rng.integers(0, 256, (24, 4, 4, 1)).astype(np.uint8)
    np.savez(home / "images.npz", images=images, labels=np.arange(24) % 2)
    values = trace(reference := load(home / "mlm"), example(reference, home / "mlm"))
    save_file(values, home / "theirs.safetensors")
    save_file({n: x for n, x in values.items() if "input." in n}, home / "inputs.safetensors")
    (home / "vit.json").write_text(json.dumps({"model_type": "vit", **VIT}))


def _json_lines(path, rows):
    path.write_text("\n".join(map(json.dumps, rows)))


TINY = ("--batch-tokens", "128", "--steps", "1", "--held-out", "4", "--max-length", "24")
SUPERVISED = {  # task: (models, data, what predict reads)
    "text-classification": (("classifier", "albert", "student"),
                            ("labelled.tsv", "labelled.jsonl", "labelled.csv"), "labelled.jsonl"),
    "token-classification": (("tagger", "roberta"), ("tags.conll",), "text.txt"),
    "question-answering": (("answers",), ("squad.json",), "squad.json"),
    "multiple-choice": (("chooser",), ("choices.jsonl",), "choices.jsonl"),
    "sentence-embedding": (("vectors",), ("pairs.tsv",), "text.txt"),
    "extractive-summarization": (("mlm",), ("documents.jsonl",), None),
    "fill-mask": (("mlm", "words"), ("text.txt", "labelled.jsonl"), "masked.txt"),
    "text-generation": (("gpt2",), ("text.txt",), "text.txt"),
    "image-classification": (("vit.json",), ("images.npz",), None),
}  # fmt: skip
OPTIONS = {"sentence-embedding": ("--label-column", "score", "--similarity-max", "5"),
           "question-answering": ("--stride", "2"),
           "extractive-summarization": ("--sentences", "1")}  # fmt: skip
WITHOUT_HEAD = {"extractive-summarization", "image-classification", "sentence-embedding"}


def _uses():
    for task, (models, data, asked) in SUPERVISED.items():
        for model in models:
            for file in data:
                read = (model, file)
                common = ("--task", task, "--data", file, *OPTIONS.get(task, ()))
                yield Use(("finetune", "--model", model, *common, *TINY, "--out", "out"), read)
                if task not in WITHOUT_HEAD:
                    yield Use(("evaluate", "--model", model, *common), read)
                    yield Use(("distill", "--teacher", model, *common, *TINY, "--out", "out"), read)
            if asked and model != "words":
                options = ("--max-new-tokens", "2") if task == "text-generation" else ()
                yield Use(("predict", "--lines", "--task", task, "--model", model, "--data", asked,
                           *options), (model, asked))  # fmt: skip
    pairs = ("translator", "text.txt", "targets.txt")
    both = ("--data", "text.txt", "--target-data", "targets.txt")
    yield Use(("finetune", "--task", "translation", "--model", "translator", *both, *TINY, "--out",
               "out"), pairs)  # fmt: skip
    yield Use(("predict", "--task", "translation", "--model", "translator", "--max-new-tokens", "4",
               "the film"), pairs[:1])  # fmt: skip
    sizes = ("--vocab-size", "120", "--layers", "2", "--hidden", "8", "--heads", "2",
             "--intermediate", "12")  # fmt: skip
    yield Use(("pretrain", "--data", "text.txt", *sizes, *TINY, "--out", "out"), ("text.txt",))
    yield Use(("info", "mlm", "student"), ("mlm", "student"))
    yield Use(("fill-mask", "--model", "mlm", "the [MASK] was dull"), ("mlm",))
    yield Use(("fill-mask", "--model", "words", "the <mask> was dull"), ("words",))
    yield Use(("generate", "--model", "gpt2", "--max-new-tokens", "4", "the film"), ("gpt2",))
    yield Use(("predict", "--model", "classifier", "a film", "a plot"), ("classifier",))
    yield Use(("predict", "--task", "feature-extraction", "--model", "albert", "--data",
               "text.txt"), ("albert", "text.txt"))  # fmt: skip
    yield Use(("search", "--items", "text.txt", "--model", "vectors", "--index", "out", "film"),
              ("vectors", "text.txt"))  # fmt: skip
    yield Use(("quantize", "--model", "classifier", "--data", "labelled.tsv", "--out", "out"),
              ("classifier", "labelled.tsv"))  # fmt: skip
    yield Use(("trace", "mlm", "--text", "a dull film", "--out", "out"), ("mlm",))
    for options, files in (((), ()), (("--inputs", "inputs.safetensors"), ("inputs.safetensors",))):
        yield Use(("check", "--model", "mlm", "--against-trace", "theirs.safetensors", *options),
                  ("mlm", "theirs.safetensors", *files))  # fmt: skip
    yield Use(("augment", "--data", "labelled.tsv", "--model", "mlm", "--copies", "1", "--out",
               "more.jsonl"), ("mlm", "labelled.tsv"))  # fmt: skip


MEASURED_BY = {"extractive-summarization": "rouge_score", "translation": "sacrebleu"}


def _runs_here(use):
    """Whether the package that measures the use's task is installed."""
    return all(find_spec(package) for task, package in MEASURED_BY.items()
               if task in use.argv and use.argv[0] != "predict")  # fmt: skip


USES = tuple(use for use in _uses() if _runs_here(use))
