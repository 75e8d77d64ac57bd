"""Ways of having a model answer: timed in turns, checked, and merged over machines."""

from pathlib import Path

import msgspec
import pytest
import torch
from torch import Tensor, nn

from experiments.mnist.answering import Answer, Answered, Way, answer_all
from experiments.mnist.hardware import hardware_paragraph
from experiments.mnist.inference import Inference, median_interval, read, render_inference

IMAGES = torch.eye(10).view(10, 1, 2, 5)
LABELS = torch.arange(10)


class Told(nn.Module):
    """Tells images that have one bright pixel each."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def eager(model: nn.Module, images: Tensor, directory: Path) -> Answer:
    return model


def wrong(model: nn.Module, images: Tensor, directory: Path) -> Answer:
    return lambda images: -model(images)


def missing(model: nn.Module, images: Tensor, directory: Path) -> Answer:
    raise RuntimeError("no compiler here\nmany more lines")


def test_each_way_is_checked_and_what_is_missing_stops_no_other(tmp_path: Path) -> None:
    ways = [Way("eager", eager, "a"), Way("missing", missing, "b"), Way("wrong", wrong, "c")]
    found = answer_all(Told(), IMAGES, LABELS, tmp_path, ways=ways, batch_sizes=(5, 1), rounds=3)
    by_way = {(one.way, one.batch_size): one for one in found}
    assert set(by_way) == {(way.name, size) for way in ways for size in (5, 1)}
    assert by_way["eager", 5].accuracy == 1.0
    assert by_way["wrong", 1].accuracy == 0.0
    assert len(by_way["eager", 1].calls_s) == 3
    assert all(one > 0 for one in by_way["eager", 1].calls_s)
    assert by_way["missing", 5].gap == "no compiler here"
    assert by_way["missing", 5].calls_s == ()


def an_inference(hardware: str, eager_s: float) -> Inference:
    def one(way: str, times: float) -> Answered:
        calls = tuple(eager_s / times * (1 + row / 1000) for row in range(40))
        return Answered(way, "a paper", 1024, 0.5, 0.02, calls, 0.97)

    gone = Answered("int8", "another", 1024, gap="no engine")
    return Inference(hardware, "torch 2", "0123abc", (one("eager", 1.0), one("bf16", 2.0), gone))


def test_machines_are_merged_into_one_table(tmp_path: Path) -> None:
    paths = []
    for name, seconds in (("a laptop", 0.001), ("a server", 0.0005)):
        paths.append(tmp_path / name)
        paths[-1].write_bytes(msgspec.json.encode(an_inference(name, seconds)))
    lines = render_inference([read(path) for path in paths], "a command")
    assert "**Machine A**: a laptop" in lines
    assert "**Machine B**: a server" in lines
    rows = [line for line in lines if line.startswith("| bf16")]
    assert [row.split(" | ")[1] for row in rows] == ["A", "B"]
    assert "| 2.00 (2.00 to 2.00) |" in rows[0]
    assert rows[0].count("|") == rows[1].count("|") == 9
    gap = next(line for line in lines if line.startswith("| int8"))
    assert "not here: no engine" in gap
    assert gap.count("|") == 9


def test_a_file_that_is_no_result_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("{}")
    for path in (tmp_path / "x", tmp_path / "absent"):
        with pytest.raises(SystemExit, match="give files that --keep wrote"):
            read(path)


def test_the_interval_of_a_median_holds_it_as_often_as_it_says() -> None:
    assert median_interval(range(40)) == (19.5, 13.0, 26.0)  # 96.2 % by the binomial
    held = 0
    generator = torch.Generator().manual_seed(0)
    for _ in range(400):
        values = torch.randn(40, generator=generator).exp().tolist()
        median, low, high = median_interval(values)
        assert low <= median <= high
        held += low <= 1.0 <= high
    assert 0.935 <= held / 400 <= 0.985


def test_the_machine_is_described() -> None:
    text = hardware_paragraph()
    assert "GHz" in text or "an unknown frequency" in text
    for word in ("physical", "logical cores", "intra-op threads", "GiB"):
        assert word in text
