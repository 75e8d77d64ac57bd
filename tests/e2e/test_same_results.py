"""A seeded training gives the same losses to the bit, observed or not, and the same generators."""

from pathlib import Path

import pytest

from observed import Observed

SCRIPT = """
import hashlib, random
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

torch.set_num_threads(1)
random.seed(1)
np.random.seed(2)
torch.manual_seed(3)

class Flip:
    def __call__(self, image):
        return image[:, :, ::-1].copy() if random.random() < 0.5 else image

class Chain:
    def __init__(self, *steps):
        self.steps = list(steps)
    def __call__(self, image):
        for step in self.steps:
            image = step(image)
        return image

def soften(image):
    return image * np.random.uniform(0.9, 1.1)

class Images(Dataset):
    def __init__(self):
        self.transform = Chain(Flip(), soften)
    def __len__(self):
        return 96
    def __getitem__(self, index):
        image = np.full((3, 8, 8), index / 96, np.float32) + np.random.rand(3, 8, 8)
        image = self.transform(image)
        return torch.from_numpy(image.astype(np.float32)) + torch.rand(1), index % 4

def seed_worker(worker):
    seed = torch.initial_seed() % 2**32
    np.random.seed(seed)
    random.seed(seed)

model = torch.nn.Sequential(
    torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Dropout(0.3),
    torch.nn.Flatten(), torch.nn.Linear(144, 4),
)
optimizer = torch.optim.Adam(model.parameters(), 0.01)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 5)
loaders = [
    DataLoader(Images(), 8, shuffle=True, num_workers=2, worker_init_fn=seed_worker),
    DataLoader(Images(), 8, shuffle=True),
]
for loader in loaders * 2:
    for x, y in loader:
        noise = random.gauss(0, 0.01) + float(np.random.normal(0, 0.01))
        loss = torch.nn.functional.cross_entropy(model(x + noise), y)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        print(loss.item().hex())
    model.eval()
    with torch.no_grad():
        print(model(torch.rand(2, 3, 8, 8)).sum().item().hex())
    model.train()
weights = b"".join(value.numpy().tobytes() for value in model.state_dict().values())
states = [weights, torch.get_rng_state().numpy().tobytes(), np.random.get_state()[1].tobytes()]
states += [repr(np.random.get_state()[2:]).encode(), repr(random.getstate()).encode()]
print(*(hashlib.sha256(state).hexdigest() for state in states))
"""
DRIVERS = {
    "run": ("-m", "profkit", "run", "--warmup", "0", "--out", "run"),
    "run, the first steps": ("-m", "profkit", "run", "--steps", "9", "--out", "run"),
    "trace's light pass": ("-m", "profkit", "trace", "--probe", "none", "--out", "run", "--"),
}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> str:
    scripts = Observed(tmp_path_factory.mktemp("alone"))
    scripts.write("run.py", SCRIPT)
    seen = scripts.python("run.py")
    assert seen.code == 0, seen.stderr
    assert len(seen.stdout.splitlines()) == 4 * 13 + 1
    return seen.stdout


@pytest.mark.parametrize("name", DRIVERS)
def test_losses_weights_and_generators_are_the_same_to_the_bit(
    alone: str, tmp_path: Path, name: str
) -> None:
    scripts = Observed(tmp_path / "work")
    scripts.write("run.py", SCRIPT)
    seen = scripts.observed("run.py", driver=DRIVERS[name])
    assert seen.code == 0, seen.stderr
    assert seen.stdout.startswith(alone)
    (run,) = scripts.path.rglob("steps.arrow")
    assert run.stat().st_size > 1000
