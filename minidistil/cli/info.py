"""The config of a model, and every parameter with shape, bytes and share.

Layers of the same shapes are one row, which counts all of them; --json lists every parameter. Two
models are shown side by side: fields by their common names, parameters by role. Published sizes of
GPT-2 and GPT-3, such as gpt3-175b, are computed by formula; nothing is allocated.
"""

import math
import warnings
from collections import Counter
from pathlib import Path

from minidistil.cli.bench.machine import processor
from minidistil.cli.command_parser import add_model
from minidistil.config import DistilBertConfig, Gpt2Config
from minidistil.config.gpt2 import SIZES, published
from minidistil.config.vit import VISION
from minidistil.io.console import Answer, table
from minidistil.io.limits import cut, few
from minidistil.model.heads import task_of
from minidistil.model.parameter_table import layout
from minidistil.model.pretrained import from_pretrained, resolve
from minidistil.model.vision.vision_names import layout as layout_of_images
from minidistil.ops import instructions

EXAMPLE = "weights runs/distill"
COMMON = {  # a family's own name of a field: the common one
    **{own: name for kind in (DistilBertConfig, Gpt2Config)
       for name, own in kind.common_names.items()},
    "hidden_dim": "intermediate_size", "n_inner": "intermediate_size",
    "activation": "hidden_act", "activation_function": "hidden_act",
    "dropout": "hidden_dropout_prob", "resid_pdrop": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
    "attn_pdrop": "attention_probs_dropout_prob", "layer_norm_epsilon": "layer_norm_eps",
}  # fmt: skip


def add_options(parser):
    add_model(parser, "or a name on the hub; one or two", several=True, required=True)
    parser.add_argument("--task", help="default: what the model's config says")


def run(args):
    if len(args.model) > 2:
        raise ValueError(f"info shows one model or two side by side, not {len(args.model)}")
    found = [_describe(name, args.task) for name in args.model]
    text = _one(found[0]) if len(found) == 1 else _two(*found)
    return Answer(found if len(found) == 2 else found[0], text)


def _describe(name, task):
    if name in SIZES and not Path(name).is_dir():
        config, dtype, stored = published(name), "float32", 0
        task = task or task_of(config)
    else:
        folder = resolve(name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings about heads concern training
            model = from_pretrained(folder, task=task)
        config, task, dtype = model.config, model.task, model.dtype
        stored = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    known = _of_images(config, task) if config.model_type in VISION else _of_texts(config, task)
    total = sum(math.prod(shape) for *_, shape in known)
    parameters = [
        {"role": role, "name": public, "shape": list(shape), "parameters": math.prod(shape),
         "bytes": 4 * math.prod(shape), "share": math.prod(shape) / total}
        for role, public, shape in known
    ]  # fmt: skip
    return {
        "model": str(name), "task": task, "dtype": dtype,
        "config": config.to_dict(),
        "processor": processor(), "instructions": instructions("cpu"),
        "parameters": total, "bytes": 4 * total, "file_bytes": stored, "table": parameters,
    }  # fmt: skip


def _of_texts(config, task):
    """[(role, public name, shape)] of every parameter."""
    sizes, names = layout(config, task)
    return [(role, name, sizes[role]) for role, name in names.items()]


def _of_images(config, task):
    """The same; the parts of a joint parameter, such as q, k and v in one, are numbered."""
    return [
        (f"{role}.{i}" if len(parts) > 1 else role, name, shape)
        for role, parts in layout_of_images(config, task).items()
        for i, (name, shape) in enumerate(parts.items())
    ]


def _one(m):
    (rows,) = _folded("name", m["table"])
    shown = [
        (name, _shape(p, count), f"{count * p['parameters']:,}", f"{count * p['bytes']:,}",
         f"{share:.1%}")
        for name, (p, count, share) in rows.items()
    ]  # fmt: skip
    shown.append(("total", "", f"{m['parameters']:,}", f"{m['bytes']:,}", "100.0%"))
    config = table(("config", ""), [(k, _value(v)) for k, v in _fields(m).items()])
    stored = f"{m['file_bytes']:,} bytes on disk" if m["file_bytes"] else "sizes by formula"
    head = f"{m['model']}: {m['task']} in {m['dtype']}; {stored}"
    head += f"\n{_machine(m)}"
    header = ("parameter", "shape", "parameters", "bytes", "share")
    return "\n\n".join([head, config, table(header, shown)])


def _two(a, b):
    head = ("", a["model"], b["model"])
    config = [(name, *(_value(m.get(own[i], "-")) for i, m in enumerate(map(_fields, (a, b)))))
              for name, own in _common(a, b).items()]  # fmt: skip
    config += [(k, *(f"{m[k]:,}" if m[k] else "-" for m in (a, b)))
               for k in ("parameters", "bytes", "file_bytes")]  # fmt: skip
    mine, theirs = (
        {name: f"{_shape(p, count)}  {share:5.1%}" for name, (p, count, share) in some.items()}
        for some in _folded("role", a["table"], b["table"])
    )
    rows = [(role, mine.get(role, "-"), theirs.get(role, "-")) for role in {**mine, **theirs}]
    return "\n\n".join([table(head, config), table(head, rows), _machine(a)])


def _machine(m):
    return f"this machine: {m['processor']}, matrix products on {m['instructions']}"


# ------------------------------------------------------- fields of a config


def _fields(m):
    """The config without the inverse of another field."""
    return {name: value for name, value in m["config"].items() if name != "label2id"}


def _common(a, b):
    """{label: the two models' own names of a field}: fields that mean the same are one row, under
    transformers' common name, with the families' own names in brackets."""
    found = {}
    for i, m in enumerate((a, b)):
        for own in _fields(m):
            found.setdefault(COMMON.get(own, own), ["", ""])[i] = own
    return {_label(common, own): own for common, own in found.items()}


def _label(common, own):
    others = [name for name in dict.fromkeys(own) if name not in ("", common)]
    return f"{common} ({', '.join(others)})" if others else common


def _value(value):
    """A value in one cell; of the classes the first few."""
    if isinstance(value, dict) and all(isinstance(x, str) for x in value.values()):
        value = list(value.values())
    return few(value, 4) if isinstance(value, list | tuple) else cut(value, 60)


# ------------------------------------------------------- parameters, equal layers in one row


def _pattern(name):
    """ "layer.3.q.weight" -> "layer.i.q.weight"."""
    return ".".join("i" if part.isdigit() else part for part in name.split("."))


def _folded(key, *tables):
    """For each table of parameters {name: (a parameter, how many, their share)}.

    Parameters that differ in the number of their layer alone are one, whose name has i for the
    number, if a table has several of them; those of several shapes stay apart.
    """
    shapes, several = {}, set()
    for some in tables:
        times = Counter(_pattern(p[key]) for p in some)
        several |= {name for name, count in times.items() if count > 1}
        for p in some:
            shapes.setdefault((id(some), _pattern(p[key])), set()).add(tuple(p["shape"]))
    several -= {name for (_, name), found in shapes.items() if len(found) > 1}
    folded = []
    for some in tables:
        rows = {}
        for p in some:
            name = _pattern(p[key]) if _pattern(p[key]) in several else p[key]
            first, count, share = rows.get(name, (p, 0, 0.0))
            rows[name] = (first, count + 1, share + p["share"])
        folded.append(rows)
    return folded


def _shape(p, count):
    shape = "×".join(map(str, p["shape"]))
    return f"{shape} × {count}" if count > 1 else shape
