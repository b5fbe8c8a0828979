"""The config of a model, and every parameter with shape, bytes and share.

Two models are shown side by side, their parameters matched by role, not by name. Published sizes of
GPT-2 and GPT-3, such as gpt3-175b, are computed by formula; nothing is allocated.
"""

import math
import warnings
from pathlib import Path

from minidistil.cli.command_parser import add_model
from minidistil.config.gpt2 import SIZES, published
from minidistil.config.vit import VISION
from minidistil.io.console import Answer, table
from minidistil.model.heads import task_of
from minidistil.model.parameter_table import layout
from minidistil.model.pretrained import from_pretrained, resolve
from minidistil.model.vision.vision_names import layout as layout_of_images
from minidistil.ops import instructions

EXAMPLE = "weights runs/distill"


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
        "instructions": instructions("cpu"),
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
    rows = [
        (p["name"], _shape(p), f"{p['parameters']:,}", f"{p['bytes']:,}", f"{p['share']:.1%}")
        for p in m["table"]
    ]
    rows.append(("total", "", f"{m['parameters']:,}", f"{m['bytes']:,}", "100.0%"))
    config = table(("config", ""), [(k, str(v)) for k, v in m["config"].items()])
    head = f"{m['model']}: {m['task']} in {m['dtype']}; {m['file_bytes']:,} bytes on disk"
    head += f"; matrix products on this machine: {m['instructions']}"
    header = ("parameter", "shape", "parameters", "bytes", "share")
    return "\n\n".join([head, config, table(header, rows)])


def _two(a, b):
    head = ("", a["model"], b["model"])
    fields = {**a["config"], **b["config"]}
    config = [(k, str(a["config"].get(k, "-")), str(b["config"].get(k, "-"))) for k in fields]
    config += [(k, f"{a[k]:,}", f"{b[k]:,}") for k in ("parameters", "bytes", "file_bytes")]
    mine, theirs = ({p["role"]: p for p in m["table"]} for m in (a, b))
    rows = [
        (role, *(f"{_shape(m[role])}  {m[role]['share']:5.1%}" if role in m else "-"
                 for m in (mine, theirs)))
        for role in {**mine, **theirs}
    ]  # fmt: skip
    return "\n\n".join([table(head, config), table(head, rows)])


def _shape(p):
    return "×".join(map(str, p["shape"]))
