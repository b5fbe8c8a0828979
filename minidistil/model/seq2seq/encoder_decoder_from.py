"""An encoder–decoder initialised from one pretrained model, or from two.

A pretrained BERT has the decoder's embeddings, self-attention, feed-forward layers and head; only
cross attention is new. The head, which predicted masked tokens, learns to predict the next one.
Source: `from_encoder_decoder_pretrained` of Hugging Face's EncoderDecoderModel; Rothe et al.,
"Leveraging pre-trained checkpoints for sequence generation tasks", 2020.
"""

import dataclasses
from collections.abc import Iterable

from minidistil.config import BertDecoderConfig, EncoderDecoderConfig
from minidistil.config.encoder_decoder import ENCODERS
from minidistil.io.arguments import whole
from minidistil.io.limits import short
from minidistil.model.model import Model
from minidistil.model.parameter_table import checked_layers, initial_values, layout
from minidistil.model.partial_initialisation import initialise_from
from minidistil.model.seq2seq.seq2seq_model import EncoderDecoder

UNSUPPORTED_DECODERS = {  # {family: the reason}
    "albert": "its words are vectors of E channels, mapped onto the width",
    "gpt2": "its blocks are of another kind (pre-norm)",
    "encoder-decoder": "it has two halves",
}
TASK = "text2text-generation"


def encoder_decoder_from(encoder: Model, decoder: Model | None = None, *, start: int, eos: int,
                         decoder_layers: Iterable[int] | None = None,
                         seed: int = 0) -> EncoderDecoder:  # fmt: skip
    """An EncoderDecoder initialised from one pretrained model, or from two.

    encoder: a BERT, DistilBERT, RoBERTa or ALBERT with any head. decoder: another one except
    ALBERT, by default the encoder; it becomes a BERT, whose positions are columns. start, eos: the
    ids that a target begins and ends with, [CLS] and [SEP]. decoder_layers: the decoder's layers to
    copy, by default all. Cross attention, a missing masked-LM head and the projection between
    unequal widths are initialised from `seed`.
    Raises ValueError for another family, or a layer that does not exist.
    """
    decoder = encoder if decoder is None else decoder
    for role, model in (("encoder", encoder), ("decoder", decoder)):
        if not hasattr(model, "config"):
            raise TypeError(f"the {role} must be a model, not {short(model)}")
    seed = whole("seed", seed)
    _check(encoder.config.model_type, decoder.config.model_type)
    depth = decoder.config.architecture.L
    layers = range(depth) if decoder_layers is None else decoder_layers
    layers = checked_layers(layers, depth, "decoder_layers", "the decoder's")
    config = _config(encoder.config, decoder.config, len(layers), start, eos)
    wanted, _ = layout(config, TASK)
    given = {f"encoder.{c}": x for c, x in encoder.named_by_role().items()}
    for c, x in decoder.named_by_role().items():
        first, _, rest = c.partition(".")
        if first != "layer":
            given[f"decoder.{c}"] = x
            continue
        i, _, role = rest.partition(".")
        for j, chosen in enumerate(layers):
            if chosen == int(i):
                given[f"decoder.layer.{j}.{role}"] = x
    params = initial_values(config, wanted, seed)
    position = "decoder.embeddings.position.weight"
    given[position] = given[position][decoder.config.architecture.first_position :]
    return EncoderDecoder(config, TASK, initialise_from(params, given), encoder.ops)


def _check(encoder, decoder):
    """Raises ValueError for unsupported families."""
    if encoder not in ENCODERS:
        raise ValueError(f"an encoder is one of {', '.join(ENCODERS)}, not {encoder!r}")
    if decoder not in ENCODERS or decoder in UNSUPPORTED_DECODERS:
        starts = [kind for kind in ENCODERS if kind not in UNSUPPORTED_DECODERS]
        why = UNSUPPORTED_DECODERS.get(decoder, "it reads images")
        raise ValueError(
            f"a decoder starts as one of {', '.join(starts)}, not as {decoder!r}: {why}; give "
            f"another decoder"
        )


def _config(encoder, decoder, depth, start, eos):
    """The config of both halves; the decoder becomes a BERT of its own shape."""
    a = decoder.architecture
    inner = BertDecoderConfig(
        vocab_size=a.V, hidden_size=a.C, num_hidden_layers=depth, num_attention_heads=a.H,
        intermediate_size=a.F, hidden_act=a.activation, hidden_dropout_prob=a.dropout,
        attention_probs_dropout_prob=a.attention_dropout, max_position_embeddings=a.longest,
        type_vocab_size=a.types or 1, layer_norm_eps=a.eps, pad_token_id=decoder.pad_token_id,
        initializer_range=decoder.initializer_range,
    )  # fmt: skip
    return EncoderDecoderConfig(
        encoder=dataclasses.replace(encoder, architectures=None), decoder=inner,
        decoder_start_token_id=start, eos_token_id=eos, pad_token_id=decoder.pad_token_id,
    )  # fmt: skip
