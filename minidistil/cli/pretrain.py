"""Train a language model from scratch: a BERT on masked words, or a GPT-2 on next words.

Learns a vocabulary from the text (WordPiece, or byte pairs for --family gpt2), or takes
--tokenizer, and writes a run folder: the model as a Hugging Face folder, metrics.jsonl,
report.json, report.html, and checkpoints from which --resume continues. With --model a trained
model is trained further on this text.
"""

from functools import partial
from pathlib import Path

from minidistil.cli import INTERRUPTED, report
from minidistil.cli.chosen_rate import with_rate
from minidistil.cli.command_parser import add_model
from minidistil.cli.options import (
    add_run_options,
    add_store_option,
    add_training_options,
    train_config,
)
from minidistil.cli.run_options import nothing_left, open_run, summarised
from minidistil.cli.task_options import settled_config
from minidistil.config import BertConfig, Gpt2Config, read_config
from minidistil.data import (
    check_vocabulary,
    load_tokenizer,
    train_byte_pairs,
    train_wordpiece,
)
from minidistil.io.checksums import digest
from minidistil.io.console import Answer
from minidistil.io.ranks import world
from minidistil.model.checkpoint import CONFIG
from minidistil.model.heads import family_of
from minidistil.model.params import sinusoids
from minidistil.model.pretrained import TOKENIZER, from_config, from_pretrained, resolve
from minidistil.tasks.data_options import LENGTH, add_text_options, read_documents, settle_length
from minidistil.tasks.fill_mask.command import add_options as add_masking_options
from minidistil.tasks.fill_mask.data import masked_text, stages, with_curriculum
from minidistil.tasks.measuring import measure
from minidistil.tasks.text_generation.command import add_options as add_window_options
from minidistil.tasks.text_generation.data import streamed_text
from minidistil.train.loop import run_loop
from minidistil.train.training_objectives import Supervised

EXAMPLE = "--layers 2 --hidden 64 --heads 2 --intermediate 256 --minutes 5 --out runs/tiny"


def add_options(parser):
    add_text_options(parser)
    add_masking_options(parser)
    add_window_options(parser)
    add_model(parser, "a trained model to start from; default: a new one")
    group = parser.add_argument_group("new model")
    group.add_argument(
        "--family", default="bert", metavar="NAME", help="of a new model: bert or gpt2 (bert)"
    )
    group.add_argument("--tokenizer", metavar="FOLDER", help="use this vocabulary")
    group.add_argument("--vocab-size", type=int, default=6000, metavar="V", help="learnt (6000)")
    group.add_argument(
        "--cased", action="store_true", help="learn word pieces with capitals and accents"
    )
    group.add_argument("--layers", type=int, default=4, metavar="L")
    group.add_argument("--hidden", type=int, default=256, metavar="C")
    group.add_argument("--heads", type=int, default=4, metavar="H")
    group.add_argument("--intermediate", type=int, default=1024, metavar="F")
    group.add_argument("--dropout", type=float, default=0.0)
    group.add_argument(
        "--sinusoidal", action="store_true",
        help="positions start as sinusoids, and are trained",
    )  # fmt: skip
    add_store_option(group)
    add_training_options(parser, lr=1e-3, batch_tokens=8192)
    parser.add_argument(
        "--curriculum", type=stages, metavar="T:N,…", default=(),
        help="cut the first N tokens into pieces of T, and so on, before --max-length: 8:1500000,"
        "32:4000000 gets a small model past guessing frequent words",
    )  # fmt: skip
    add_run_options(parser)


def run(args):
    longest = _longest(resolve(args.model)) if args.model else LENGTH
    settle_length(args, longest)
    config = train_config(args, epochs=1)
    run = open_run(args, "pretrain")
    with nothing_left(args.out):
        if run.resumed:
            run.know(_kept_tokenizer(args.out))
        model, tokenizer = _model(args, run)
        check_vocabulary(tokenizer, model.config.vocab_size)
        data, training = _data(args, model.task, tokenizer, run.resumed)
        if not run.resumed:
            if world().rank == 0:
                tokenizer.save(args.out)
            world().wait()
            run.know(_kept_tokenizer(args.out))
        batches = data.evaluation_batches()
        config = settled_config(config, args, model, data)
        evaluate, objective = partial(measure, batches=batches), Supervised(model)
        config = with_rate(config, args, run, objective, training, evaluate)
        summary = run_loop(
            objective, training, config, run=run, evaluate=evaluate, resume=run.resumed
        )  # fmt: skip
    if summary["interrupted"]:
        return Answer(summary, "", INTERRUPTED)
    if world().rank:  # rank 0 alone writes
        return Answer(summary, "")
    model.save_pretrained(args.out, args.store)
    found = summary | {"task": model.task, "out": str(args.out)}
    run.report(found)
    report.write(args.out)
    return Answer(found, summarised(found))


def _kept_tokenizer(out):
    """{"the tokenizer": digest} of the one in the run's folder."""
    named = [(name, Path(out) / name) for name in TOKENIZER]
    return {"the tokenizer": digest(x for x in named if x[1].is_file())}


def _longest(folder):
    """The tokens that its model reads. Raises ValueError for one that reads images."""
    family_of(read_config(folder / CONFIG))
    return load_tokenizer(folder).max_length


def _data(args, task, tokenizer, resumed):
    """The data to evaluate on, and the data to train on: the same, except with --curriculum."""
    if task == "text-generation":
        if args.curriculum:
            raise ValueError("--curriculum is for masked words; leave it out for next words")
        data = streamed_text(args, tokenizer, args.out, resumed)
        return data, data
    data = masked_text(args, tokenizer, args.out, resumed)
    return data, with_curriculum(args, data, tokenizer, args.out, resumed)


def _model(args, run):
    """The model to train, and its tokenizer."""
    if args.cased and (args.model or args.tokenizer or args.family == "gpt2"):
        raise ValueError(
            "--cased is for word pieces that are learnt here; --model and --tokenizer bring their "
            "own, and the byte pairs of --family gpt2 keep capitals: leave --cased out"
        )
    if args.model:
        folder = resolve(args.model)
        decoder = read_config(folder / CONFIG).architecture.causal
        model = from_pretrained(
            folder, task="text-generation" if decoder else "fill-mask", backend=args.backend,
            dtype=args.dtype, seed=args.seed,
        )  # fmt: skip
        return model, load_tokenizer(folder)
    if args.family not in FAMILIES:
        raise ValueError(f"--family must be one of {', '.join(FAMILIES)}, not {args.family!r}")
    family, learn_words, sizes = FAMILIES[args.family]
    sizes = sizes(args)
    family(**sizes)  # inconsistent sizes are refused before any text is read
    if run.resumed:
        tokenizer = load_tokenizer(args.out)
    elif args.tokenizer:
        tokenizer = load_tokenizer(args.tokenizer)
    else:
        tokenizer = learn_words(read_documents(args, "learning words"), args)
    causal = args.family == "gpt2"
    tokenizer = tokenizer.for_model(args.max_length, token_types=not causal)
    special = {"pad_token_id": tokenizer.pad_id}
    if causal:
        special = {"bos_token_id": tokenizer.cls_id, "eos_token_id": tokenizer.sep_id}
    config = family(vocab_size=tokenizer.vocab_size, **special, **sizes)
    task = "text-generation" if causal else "fill-mask"
    model = from_config(config, task, args.seed, args.backend, args.dtype)
    if args.sinusoidal:
        _start_with_sinusoids(model)
    return model, tokenizer


def _word_pieces(documents, args):
    return train_wordpiece(documents, args.vocab_size, lowercase=not args.cased)


def _byte_pairs(documents, args):
    return train_byte_pairs(documents, args.vocab_size)


def _bert_sizes(args):
    return {
        "hidden_size": args.hidden, "num_hidden_layers": args.layers,
        "num_attention_heads": args.heads, "intermediate_size": args.intermediate,
        "max_position_embeddings": args.max_length, "hidden_dropout_prob": args.dropout,
        "attention_probs_dropout_prob": args.dropout,
    }  # fmt: skip


def _gpt2_sizes(args):
    return {
        "n_embd": args.hidden, "n_layer": args.layers, "n_head": args.heads,
        "n_inner": args.intermediate, "n_positions": args.max_length, "resid_pdrop": args.dropout,
        "embd_pdrop": args.dropout, "attn_pdrop": args.dropout,
    }  # fmt: skip


FAMILIES = {
    "bert": (BertConfig, _word_pieces, _bert_sizes),
    "gpt2": (Gpt2Config, _byte_pairs, _gpt2_sizes),
}


def _start_with_sinusoids(model):
    """Positions as sinusoids of the same size as the word embeddings, instead of noise.

    "The previous token" is then one rotation for all positions; with random vectors it is learned
    for each pair of positions. What is learned on short pieces then also holds in longer ones.
    """
    a, name = model.config.architecture, model.names["embeddings.position.weight"]
    size = model.config.initializer_range * 2**0.5  # a sinusoid's rms is 1/√2
    model.update({name: size * sinusoids(a.P, a.C)})
