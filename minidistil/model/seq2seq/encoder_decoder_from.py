"""An encoder–decoder out of one pretrained model, or of two.

Embeddings, self attention, feed-forward and the masked-LM head are what a pretrained BERT has
already; only cross attention is new. What predicted a masked word learns to predict the next.
Source: `from_encoder_decoder_pretrained` of Hugging Face's EncoderDecoderModel; Rothe et al.,
"Leveraging pre-trained checkpoints for sequence generation tasks", 2020.
"""

import dataclasses

from minidistil.config import BertDecoderConfig, EncoderDecoderConfig
from minidistil.config.encoder_decoder import ENCODERS
from minidistil.io.arguments import whole
from minidistil.io.limits import short
from minidistil.model.parameter_table import checked_layers, initial_values, layout
from minidistil.model.partial_initialisation import initialise_from
from minidistil.model.seq2seq.seq2seq_model import EncoderDecoder

WHY_NOT = {  # what a decoder with cross attention does not start as
    "albert": "its words are vectors of E channels, mapped onto the width",
    "gpt2": "its blocks are of another kind (pre-norm)",
    "encoder-decoder": "it has two halves",
}
TASK = "text2text-generation"


def encoder_decoder_from(encoder, decoder=None, *, start, eos, decoder_layers=None, seed=0):
    """An EncoderDecoder that starts as a pretrained model, or as two.

    encoder: a BERT, DistilBERT, RoBERTa or ALBERT, with whatever head; decoder: another one, by
    default the same, but no ALBERT; it becomes a BERT, whose positions are counted by column.
    start, eos: the ids that a target begins and ends with, [CLS] and [SEP]. decoder_layers: which
    of the decoder's layers are taken, by default all. What the pretrained model lacks (cross
    attention; without a masked-LM head, the head) starts anew from `seed`, as does the projection
    where the widths differ.
    Raises ValueError for another family, or a layer that is not there.
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
    """Raises ValueError for families of which no encoder–decoder is made."""
    if encoder not in ENCODERS:
        raise ValueError(f"an encoder is one of {', '.join(ENCODERS)}, not {encoder!r}")
    if decoder not in ENCODERS or decoder in WHY_NOT:
        starts = [kind for kind in ENCODERS if kind not in WHY_NOT]
        why = WHY_NOT.get(decoder, "it reads images")
        raise ValueError(
            f"a decoder starts as one of {', '.join(starts)}, not as {decoder!r}: {why}; give "
            f"another decoder"
        )


def _config(encoder, decoder, depth, start, eos):
    """The config of both; whatever the decoder started as, it is a BERT of that shape."""
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
