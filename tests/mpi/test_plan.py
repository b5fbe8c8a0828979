"""The planner's arithmetic by hand, and its command."""

import json

import pytest

from minidistil.cli import main
from minidistil.cli.plan import bandwidth
from minidistil.train.cluster_plan import Cluster, MeasuredStep, predict, ring

STEP = MeasuredStep(
    cores=2, tokens=1000, gradients=3.0, update=0.4, ready=((2.0, 400e6), (3.0, 100e6)),
    memory=10**9, parameters=125_000_000,
)  # fmt: skip
FOUR = Cluster(nodes=4, cores=8, bandwidth=1e9, latency=0.001, watts=500)


def test_a_ring_sends_twice_the_share_of_all_other_nodes():
    sent, seconds = ring(400e6, FOUR)
    assert sent == 2 * 3 / 4 * 400e6
    assert seconds == pytest.approx(0.6 + 6 * 0.001)


def test_a_step_by_hand():
    """Cores are four times as many: gradients 0.75 s, layers ready after 0.5 s. Their bucket takes
    0.606 s to 1.106 s, embeddings 0.156 s to 1.262 s: 0.512 s after the backward."""
    found = predict(STEP, FOUR, tokens=40_000)
    assert found["compute_seconds"] == pytest.approx(0.75)
    assert found["exposed_seconds"] == pytest.approx(0.512)
    assert found["step_seconds"] == pytest.approx(0.75 + 0.512 + 0.1)
    assert found["steps"] == 10 and found["batch_tokens"] == 4000
    assert found["sent_bytes_per_step"] == pytest.approx(1.5 * 500e6)
    assert found["kilowatt_hours"] == pytest.approx(4 * 0.5 * 13.62 / 3600)
    assert found["efficiency"] == pytest.approx(0.85 / 1.362)


def test_accumulation_hides_the_network():
    """Gradients are sent once a step, after its last micro-batch."""
    one, four = (predict(STEP, FOUR, 40_000, accumulate=a) for a in (1, 4))
    assert four["network_seconds"] == one["network_seconds"]
    assert four["exposed_seconds"] == pytest.approx(one["exposed_seconds"])
    assert four["efficiency"] > one["efficiency"]


def test_one_node_sends_nothing():
    found = predict(STEP, FOUR._replace(nodes=1, cores=2), tokens=3000)
    assert found["sent_bytes_in_all"] == 0 and found["efficiency"] == 1
    assert found["step_seconds"] == pytest.approx(3.4) and found["memory_bytes"] == 10**9


@pytest.mark.parametrize(("text", "bytes_a_second"), [
    ("25Gbit", 3.125e9), ("10 Gbit/s", 1.25e9), ("3GB", 3e9), ("100Mbps", None), ("2.5GB/s", 2.5e9),
])  # fmt: skip
def test_a_rate_has_a_unit(text, bytes_a_second):
    if bytes_a_second is None:
        with pytest.raises(Exception, match="25Gbit or 3GB, not '100Mbps'"):
            bandwidth(text)
    else:
        assert bandwidth(text) == bytes_a_second


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({
        "model_type": "bert", "vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 4,
        "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 32,
    }))  # fmt: skip
    return path


SMALL = ("--backend", "numpy", "--batch-tokens", "64")


def test_a_pair_of_configs_is_measured(config, capsys):
    command = ["plan", "--teacher", str(config), *SMALL, "--nodes", "8", "--cores", "64"]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    measured, P = found["measured"], found["measured"]["parameters"]
    assert measured["tokens"] == 64 and found["batch_tokens"] == 512
    assert sum(nbytes for _, nbytes in measured["ready"]) == 4 * P, "every gradient is sent"
    assert found["sent_bytes_per_step"] == pytest.approx(2 * 7 / 8 * 4 * P)
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "8 nodes × 1 × 64" in shown and shown.count("assumed: ") == 2


def test_frozen_parts_are_not_sent(config, capsys, monkeypatch):
    monkeypatch.setattr("minidistil.cli.plan.BUCKET", 1)  # a bucket for each layer
    embeddings = (60 + 32) * 16 + 2 * 16  # the tables of DistilBERT, and a LayerNorm
    command = ["plan", "--teacher", str(config), *SMALL, "--json", "--freeze"]
    low, block = (measured(capsys, [*command, part]) for part in ("embeddings", "0"))
    whole = measured(capsys, command[:-1])
    assert whole["parameters"] - low["parameters"] == embeddings
    assert whole["ready"][-1][1] == block["ready"][-1][1] == 4 * embeddings
    assert len(whole["ready"]) - 1 == len(low["ready"]) == len(block["ready"])
    for found in (whole, low, block):
        assert sum(nbytes for _, nbytes in found["ready"]) == 4 * found["parameters"]
    assert low["memory"] < whole["memory"]


def measured(capsys, command):
    assert main(command) == 0
    return json.loads(capsys.readouterr().out)["measured"]


@pytest.mark.parametrize(("option", "value", "words"), [
    ("--nodes", "0", "--nodes must be above 0, not 0"), ("--network", "fast", "25Gbit or 3GB"),
    ("--teacher", "./nothing", "is not a folder"),
])  # fmt: skip
def test_bad_input_is_one_line(config, capsys, option, value, words):
    assert main(["plan", "--teacher", str(config), *SMALL, option, value]) == 2
    assert words in capsys.readouterr().err
