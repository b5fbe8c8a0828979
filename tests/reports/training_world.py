"""Tiny models with random weights, and options that make a training command quick."""

import json
import random

import numpy as np

import minidistil as md
from minidistil.cli import main
from minidistil.config import BertConfig, Gpt2Config
from minidistil.data import train_byte_pairs, train_wordpiece

QUICK = ("--backend", "numpy", "--batch-tokens", "128", "--steps", "2", "--max-length", "16")
WORDS = "the film was great and we loved the actors what a dull plot awful to watch"


def sentences(count, seed=0):
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS.split(), k=rng.randint(4, 9))) for _ in range(count)]


def model_folder(folder, task, **fields):
    """A BERT of two layers with a tokenizer."""
    tokenizer = train_wordpiece(sentences(50), 60)
    labels = {"id2label": ("bad", "good")} if "classification" in task else {}
    config = BertConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=12, num_hidden_layers=2, intermediate_size=20,
        num_attention_heads=2, max_position_embeddings=16, pad_token_id=tokenizer.pad_id,
        **labels | fields,
    )  # fmt: skip
    md.from_config(config, task).save_pretrained(folder)
    tokenizer.save(folder)
    return str(folder)


def decoder_folder(folder):
    """A GPT-2 of two layers with a tokenizer."""
    tokenizer = train_byte_pairs(sentences(50), 280)
    config = Gpt2Config(
        vocab_size=tokenizer.vocab_size, n_embd=12, n_layer=2, n_head=2, n_inner=20, n_positions=16,
        bos_token_id=tokenizer.cls_id, eos_token_id=tokenizer.sep_id,
    )  # fmt: skip
    md.from_config(config, "text-generation").save_pretrained(folder)
    tokenizer.save(folder)
    return str(folder)


def text_file(path, count=30):
    path.write_text("\n".join(sentences(count)) + "\n")
    return str(path)


def labelled_file(path, count=30, of=("bad", "good")):
    rows = [f"{text}\t{of[i % len(of)]}" for i, text in enumerate(sentences(count))]
    path.write_text("\n".join(["text\tlabel", *rows]) + "\n")
    return str(path)


def image_file(path, labels=True):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (20, 8, 8)).astype(np.uint8)
    found = {"labels": rng.integers(0, 3, 20)} if labels else {}
    np.savez(path, images=images, **found)
    return str(path)


def answer(capsys, *argv):
    """What a command prints with --json, which ends well; and its stderr."""
    code = main([*map(str, argv), "--json"])
    shown = capsys.readouterr()
    assert code == 0, shown.err
    return json.loads(shown.out), shown.err


def refused(capsys, *argv):
    """The one line of a command that ends with exit code 2 before any step."""
    code = main([*map(str, argv)])
    shown = capsys.readouterr()
    assert code == 2, shown
    (line,) = [line for line in shown.err.splitlines() if line.startswith("error: ")]
    return line
