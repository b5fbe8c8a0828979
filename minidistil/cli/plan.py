"""Predict a distillation on several machines: time, memory, network volume and energy.

Times a few steps of the pair on this machine, in which the weights do not matter, and scales them:
cores of the cluster's nodes are taken to be as fast as these, its network to be a ring. The
assumptions are part of the output. Start the run itself with mpirun, one rank a node.
"""

import argparse
import re
import time
from math import ceil

import numpy as np

from minidistil.cli.options import add_freeze_option, add_model_options, trained_dtype
from minidistil.config import read_config
from minidistil.distill import DistillConfig, student_config
from minidistil.io.console import Answer, progress
from minidistil.model.bundled_teacher import default_teacher
from minidistil.model.checkpoint import CONFIG
from minidistil.model.frozen_parts import frozen_up_to
from minidistil.model.handing_over import receiving
from minidistil.model.pretrained import from_config, resolve
from minidistil.ops import Workspace
from minidistil.train.cluster_plan import Cluster, MeasuredStep, predict
from minidistil.train.gradient_sum import BUCKET
from minidistil.train.layer_rates import frozen_bottom, layer_rates
from minidistil.train.optimizer import AdamW, clip_factor, global_norm
from minidistil.train.train_config import TrainConfig
from minidistil.train.training_objectives import Distillation

EXAMPLE = "--tokens 3e9 --nodes 8 --cores 64 --network 25Gbit"
WARM, TIMED = 1, 3  # steps
UNITS = {"bit": 1 / 8, "B": 1.0}
PREFIXES = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
MASKED = 0.15  # of the tokens


def bandwidth(text):
    """ "25Gbit" or "3GB", a second  ->  bytes a second."""
    found = re.fullmatch(r"([\d.]+(?:e\d+)?) ?([kMGT]?)(bit|B)(?:/s|ps)?", text)
    if not found or float(found[1]) <= 0:
        raise argparse.ArgumentTypeError(f"a network is given as 25Gbit or 3GB, not {text!r}")
    return float(found[1]) * PREFIXES[found[2]] * UNITS[found[3]]


def add_options(parser):
    group = parser.add_argument_group("pair")
    group.add_argument("--teacher", metavar="FOLDER", help="a model, or a config.json; weights/")
    group.add_argument(
        "--student", metavar="FOLDER",
        help="a model, or a config.json; default: a DistilBERT with half the teacher's layers",
    )  # fmt: skip
    group = parser.add_argument_group("run")
    group.add_argument("--tokens", type=float, default=1e9, metavar="N", help="to train on (1e9)")
    group.add_argument("--batch-tokens", type=int, default=4096, metavar="N",
                       help="of a micro-batch (4096)")  # fmt: skip
    group.add_argument("--accumulate", type=int, default=1, metavar="N",
                       help="micro-batches a step of a node (1)")  # fmt: skip
    group.add_argument("--max-length", type=int, metavar="T", help="tokens a sequence (128)")
    add_freeze_option(group)
    group = parser.add_argument_group("machines")
    group.add_argument("--nodes", type=int, default=2, metavar="N", help="(2)")
    group.add_argument("--cores", type=int, metavar="C", help="of a node; default: this machine's")
    group.add_argument("--network", type=bandwidth, default="25Gbit", metavar="RATE",
                       help="of a node, a second: 10Gbit, 3GB (25Gbit)")  # fmt: skip
    group.add_argument("--latency", type=float, default=30e-6, metavar="S",
                       help="seconds of a message (30e-6)")  # fmt: skip
    group.add_argument("--watts", type=float, metavar="W",
                       help="of a node under load; default: 100 and 5 a core")  # fmt: skip
    add_model_options(parser)
    parser.add_argument("--dtype", type=trained_dtype, default="float32", metavar="D")


def run(args):
    from minidistil.ops.runtime import cpu

    for name in ("tokens", "nodes", "cores", "batch_tokens", "accumulate", "latency", "watts"):
        value = getattr(args, name)
        if value is not None and not value > 0:
            raise ValueError(f"--{name.replace('_', '-')} must be above 0, not {value:g}")
    here = args.threads or cpu.cores()
    cores = args.cores or here
    watts = args.watts or 100 + 5 * cores
    cluster = Cluster(args.nodes, cores, args.network, args.latency, watts)
    teacher = _config(args.teacher or default_teacher())
    make = {"task": "fill-mask", "backend": args.backend, "dtype": args.dtype}
    teacher = from_config(teacher, **make)
    if args.student:
        student = from_config(_config(args.student), **make)
    else:
        student = from_config(student_config(teacher, ceil(teacher.config.architecture.L / 2)),
                              **make)  # fmt: skip
    measured = measure(Distillation(student, teacher, DistillConfig()), args, here)
    found = predict(measured, cluster, args.tokens, args.accumulate)
    found |= {"measured": measured._asdict(), "cluster": cluster._asdict()}
    return Answer(found, _shown(found, measured, cluster, args))


def _config(name):
    return read_config(name if str(name).endswith(".json") else resolve(name) / CONFIG)


def measure(objective, args, cores) -> MeasuredStep:
    """The fastest of TIMED steps of random words; the parameters do not change."""
    model, teacher, best = objective.model, objective.teacher, None
    rates = layer_rates(model, TrainConfig(steps=TIMED, freeze=args.freeze))
    optimizer = AdamW(model.params, backend=args.backend, rates=rates)
    batch = _batch(min(m.config.architecture.P for m in (model, teacher)),
                   min(m.config.vocab_size for m in (model, teacher)), args)  # fmt: skip
    with Workspace() as workspace:
        for number in progress(range(WARM + TIMED), "timing a step"):
            times, started = [], time.perf_counter()

            def receive(grads, times=times, started=started):
                trained = [g for name, g in model.named(grads).items() if name in rates]
                nbytes = sum(4 * g.size for g in trained)
                times.append((time.perf_counter() - started, nbytes))

            with receiving(receive), frozen_up_to(frozen_bottom(args.freeze)):
                _, grads = objective.gradients(batch, seed=0, step=number, first_sequence=0)
            gradients = time.perf_counter() - started
            grads = {name: grads[name] for name in rates}
            scale = clip_factor(global_norm(grads.values(), args.backend), 1.0)
            for _ in optimizer.steps(grads, 1e-4, scale):  # one new array at a time
                pass
            update = time.perf_counter() - started - gradients
            if number >= WARM and (best is None or gradients + update < sum(best[:2])):
                best = gradients, update, times
        held = workspace.nbytes
    gradients, update, times = best
    P = sum(model.params[name].size for name in rates)
    rest = 4 * P - sum(nbytes for _, nbytes in times)  # embeddings
    weights = 4 * sum(p.size for m in (model, teacher) for p in m.params.values())
    return MeasuredStep(
        cores, int(batch["attention_mask"].sum()), gradients, update,
        _buckets([*times, (gradients, rest)]), weights + 2 * 4 * P + held, P,
    )  # fmt: skip


def _buckets(times):
    """(seconds, bytes) of layers  ->  the same of buckets of BUCKET bytes or more."""
    found, waiting = [], 0
    for seconds, nbytes in times:
        waiting += nbytes
        if waiting >= BUCKET:
            found.append((seconds, waiting))
            waiting = 0
    return tuple([*found, (times[-1][0], waiting)] if waiting else found)


def _batch(positions, V, args):
    """Sequences of one length, of random words."""
    T = min(args.max_length or 128, positions, args.batch_tokens)
    rng = np.random.default_rng(0)
    ids = rng.integers(0, V, (max(1, args.batch_tokens // T), T))
    ids[ids == 0] = V - 1
    labels = np.where(rng.random(ids.shape) < MASKED, ids, -100)
    labels[:, 0] = ids[:, 0]
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "labels": labels}


def _shown(found, measured, cluster, args):
    n, a = cluster.nodes, args.accumulate
    seconds, sent = found["step_seconds"], found["sent_bytes_per_step"]
    speed = f"{found['tokens_per_second']:,.0f} tokens/s"
    rows = [
        ("training", f"{found['hours']:,.1f} hours",
         f"{found['steps']:,} steps of {seconds:.3f} s; {speed}"),
        ("a step", f"{seconds:.3f} s",
         f"gradients {found['compute_seconds']:.3f}, network {found['network_seconds']:.3f} (not "
         f"hidden {found['exposed_seconds']:.3f}), update {found['update_seconds']:.3f}"),
        ("batch", f"{found['batch_tokens']:,} tokens", f"{n} nodes × {a} × {measured.tokens:,}"),
        ("efficiency", f"{100 * found['efficiency']:.1f} %", "100 %: n times as fast as one node"),
        ("memory", f"{found['memory_bytes'] / 1e9:.2f} GB", "of a node, with one micro-batch"),
        ("network", f"{sent / 1e6:,.0f} MB",
         f"sent by a node a step; {found['sent_bytes_in_all'] / 1e12:,.2f} TB by all in all"),
        ("energy", f"{found['kilowatt_hours']:,.0f} kWh", f"{n} nodes at {cluster.watts:g} W"),
    ]  # fmt: skip
    wide = max(len(row[1]) for row in rows)
    shown = [f"{name:10}  {value:>{wide}}  {how}" for name, value, how in rows]
    assumed = (
        f"measured here on {measured.cores} cores: {measured.tokens:,} tokens, gradients "
        f"{measured.gradients:.3f} s, clipping and AdamW {measured.update:.3f} s",
        f"assumed: cores such as these, work scales with their number ({measured.cores} to "
        f"{cluster.cores}), all nodes are equally fast, text is read in time",
        f"assumed: a ring at {cluster.bandwidth / 1e9:g} GB/s and {1e6 * cluster.latency:g} µs a "
        f"message, summed while the backward works",
    )
    return "\n".join([*shown, "", *assumed])
