"""Folders of tiny models with heads, made in a moment, for commands that read labelled data."""

import json

import minidistil as md
from minidistil.cli import main
from minidistil.data import train_wordpiece

TEXTS = ["a good film", "a bad film", "an odd film", "good and bad", "an actor", "the film"]
SIZES = {"model_type": "distilbert", "dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 16,
         "max_position_embeddings": 32}  # fmt: skip
QUICK = ("--backend", "numpy", "--batch-tokens", "64")


def model_folder(folder, task="text-classification", names=(), **settings):
    """A DistilBERT with a head for these names, and its tokenizer."""
    from minidistil.config import read_config

    tokenizer = train_wordpiece(TEXTS, 80, min_frequency=1)
    folder.mkdir(parents=True)
    config = folder / "config.json"
    labels = {"id2label": dict(enumerate(names))} if names else {}
    config.write_text(json.dumps(SIZES | {"vocab_size": tokenizer.vocab_size} | labels | settings))
    md.from_config(read_config(config), task, backend="numpy").save_pretrained(folder)
    tokenizer.save(folder)
    return folder


def ran(capsys, *argv):
    """Exit code, standard output, the warnings and the errors."""
    code = main([str(x) for x in argv])
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    return (
        code,
        captured.out,
        *(
            "\n".join(line for line in lines if line.startswith(kind))
            for kind in ("warning", "error")
        ),
    )


def rows(path, *found):
    """A .jsonl file of these objects."""
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    return path
