import pytest
import torch

from profkit.workloads.models import WORKLOADS


@pytest.mark.parametrize(("name", "parameters"), [("fastmlp", 235_146), ("cnn", 225_034)])
def test_the_networks_have_the_published_size(name: str, parameters: int) -> None:
    model = WORKLOADS[name].model()
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert model(torch.zeros(3, 1, 28, 28)).shape == (3, 10)


@pytest.mark.parametrize("name", WORKLOADS)
def test_each_workload_learns(name: str) -> None:
    workload = WORKLOADS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = workload.model()
        x, y = torch.randn(32, 1, 28, 28), torch.arange(32) % 10
        optimizer = workload.optimizer(model.parameters())
        losses = []
        for _ in range(30):
            loss = workload.loss(model(x), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
