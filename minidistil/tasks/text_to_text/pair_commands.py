"""The command hooks that translation and summarization share."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

from minidistil.config import read_config
from minidistil.data.batches import Batching
from minidistil.data.text_pairs import TextPairs, text_pairs
from minidistil.distill.objectives.sequence_step import taught_pairs
from minidistil.io.console import progress, silent_on_resume
from minidistil.model.checkpoint import CONFIG
from minidistil.model.pretrained import from_pretrained
from minidistil.model.seq2seq.encoder_decoder_from import encoder_decoder_from
from minidistil.model.seq2seq.seq2seq_model import EncoderDecoder
from minidistil.tasks.decoding_options import DECODING, add_decoding_options, given
from minidistil.tasks.labelled_data import held_out_of, training_and_evaluation


def add_pair_options(parser) -> None:
    group = parser.add_argument_group("pairs of texts (translation, summarization)")
    group.add_argument("--target-data", metavar="PATH", help="line i is what line i of --data is")
    group.add_argument("--eval-target-data", metavar="PATH", help="the same of --eval-data")
    group.add_argument("--source-column", metavar="NAME", help="of a table or of JSON objects")
    group.add_argument("--target-column", metavar="NAME", help="default: target, or summary")
    group.add_argument(
        "--max-target-length", type=int, metavar="U", help="tokens a target; default: as a source"
    )
    group.add_argument(
        "--decoder-layers", metavar="0,2,…",
        help="the layers that initialise the decoder; default: all of a pretrained model's, every "
        "other one of a teacher's",
    )  # fmt: skip
    add_decoding_options(group, 1)
    group.add_argument(
        "--sequence-level", action="store_true",
        help="distill: learn from the teacher's beam-search outputs instead of the data's targets",
    )  # fmt: skip


def read_pairs(args, data: str) -> list[tuple[str, list[str]]]:
    """A list of (text, [targets])."""
    columns = {"source_column": args.source_column, "target_column": args.target_column}
    target = args.eval_target_data if data == getattr(args, "eval_data", None) else args.target_data
    return list(progress(text_pairs(data, target_file=target, **columns), "reading", unit=" pairs"))


def training(task, args, folder, tokenizer, resumed) -> tuple:
    """The folder's encoder–decoder, or one whose two halves are initialised from the folder's
    model; and TextPairs."""
    pairs, evaluation = training_and_evaluation(args, read_pairs)
    options = {"backend": args.backend, "dtype": args.dtype, "seed": args.seed}
    with silent_on_resume(args):
        if read_config(folder / CONFIG).model_type == "encoder-decoder":
            model = from_pretrained(folder, task=task, **options)
        else:
            body = from_pretrained(folder, task="fill-mask", **options)
            found = encoder_decoder_from(
                body, start=tokenizer.cls_id, eos=tokenizer.sep_id, seed=args.seed,
                decoder_layers=decoder_layers(args),
            )  # fmt: skip
            config = dataclasses.replace(found.config, task=task)
            model = EncoderDecoder(config, task, found.named_by_role(), found.ops)
    return model, _data(args, tokenizer, pairs, evaluation)


def decoder_layers(args) -> tuple[int, ...] | None:
    """--decoder-layers as numbers, or None."""
    given = args.decoder_layers
    return None if given is None else tuple(int(part) for part in given.split(","))


def evaluation(args, tokenizer, model) -> list[dict]:
    """Batches of sources with their references."""
    return _data(args, tokenizer, [], held_out_of(args, read_pairs)).evaluation_batches()


def distillation(args, tokenizer, teacher, resumed):
    """TextPairs; with --sequence-level the targets are the teacher's beam-search outputs."""
    pairs, evaluation = training_and_evaluation(args, read_pairs)
    if args.sequence_level:
        pairs = taught_pairs(
            teacher, tokenizer, pairs, Path(args.out) / "data", tokens=args.batch_tokens,
            max_length=args.max_length, **_search(args),
            progress=lambda batches: progress(batches, "the teacher writes"),
        )  # fmt: skip
    return _data(args, tokenizer, pairs, evaluation)


def _data(args, tokenizer, pairs, evaluation):
    length = args.max_target_length or args.max_length
    return TextPairs(
        pairs, tokenizer, Batching(args.batch_tokens, args.seed), evaluation=evaluation,
        max_length=args.max_length, max_target_length=length, search=_search(args),
    )  # fmt: skip


def _search(args):
    return {**given(args, DECODING), "max_new_tokens": args.max_target_length or args.max_length}


# ------------------------------------------------------- measuring


def measure(score: Callable, model, batches, reference=None) -> dict[str, float]:
    """loss (nats a target token), score(texts, wanted), and agreement: the share of texts equal to
    those of `reference`."""
    losses, sizes, texts, wanted = [], [], [], []
    for batch in batches:
        arrays = {name: x for name, x in batch.items() if name != "wanted"}
        pair = model.pack_pair(**arrays)
        losses.append(model.loss_of(pair))
        sizes.append(np.count_nonzero(pair.labels != -100))
        texts += _texts(model, batch)
        wanted += batch["wanted"].texts
    if not sizes:
        raise ValueError("there is nothing to evaluate on; hold out some pairs")
    found = {"loss": float(np.average(losses, weights=sizes)), **score(texts, wanted)}
    if reference is not None:
        found["agreement"] = float(np.mean(np.array(texts, object) == reference))
    return found


def answers(model, batches) -> np.ndarray:
    """The generated text of every source, in one array."""
    return np.array([text for batch in batches for text in _texts(model, batch)], object)


def _texts(model, batch):
    wanted = batch["wanted"]
    ids = model.generate(batch["input_ids"], batch["attention_mask"], **wanted.search)
    return [wanted.decode(text) for text in ids]
