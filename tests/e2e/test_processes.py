"""Scripts that fork, spawn and use threads: their results are right, and nothing counts twice."""

import os

import pytest

from observed import EPOCH, Observed
from programs import Ended

FORK = """
print(train(2), flush=True)
child = os.fork()
if child:
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    print(train(2))
else:
    train(3)
    time.sleep(0.8)  # past a write, if there were one
    train(1)
    {end}
"""
SPAWN = """
import multiprocessing

def work(queue):
    watching = "profkit" in sys.modules
    queue.put((train(3), watching, __name__))

if __name__ == "__main__":
    context = multiprocessing.get_context("{method}")
    queue = context.SimpleQueue()
    child = context.Process(target=work, args=[queue])
    child.start()
    print(*queue.get())
    child.join()
    print(child.exitcode)
    print(train(3))
"""
WORKERS = """
class Items(torch.utils.data.Dataset):
    def __len__(self):
        return 64
    def __getitem__(self, index):
        if torch.utils.data.get_worker_info() and "{method}" != "fork":
            assert "profkit.observation" not in sys.modules
        generator = torch.Generator().manual_seed(index)
        return torch.randn(8, generator=generator)

def epoch(**options):
    loss = torch.zeros(())
    for x in DataLoader(Items(), batch_size=4, **options):
        loss = model(x).square().mean()
        loss.backward()
        with torch.no_grad():
            model.weight -= 0.1 * model.weight.grad
        model.zero_grad()
    return loss.item().hex()

if __name__ == "__main__":
    state = {{name: value.clone() for name, value in model.state_dict().items()}}
    losses = []
    for options in ({{}}, dict(num_workers=2, multiprocessing_context="{method}")):
        model.load_state_dict(state)
        losses.append(epoch(**options))
    print(losses[0] == losses[1])
"""
THREAD = """
results = []
thread = threading.Thread(target=lambda: results.append(train(3)))
thread.start()
{join}
"""
DAEMON = """
resting = threading.Event()
def forever():
    train(5, lambda step: time.sleep(0.03))
    # Python aborts where it ends within a daemon's backward pass.
    resting.set()
    time.sleep(60)
threading.Thread(target=forever, daemon=True).start()
resting.wait()
print("end")
"""
OTHERS = """
import subprocess
if "again" in sys.argv:
    print(train(3), "profkit" in sys.modules, "torch" in sys.modules)
else:
    print(train(2), flush=True)
    subprocess.run([sys.executable, *sys.argv, "again"], check=True)
    print(train(2))
"""
ONE, TWO, THREE, FOUR = (f"{{after{count}}}\n" for count in range(1, 5))
SCRIPTS = {
    "fork, falls off": (FORK.format(end="pass"), f"{TWO}0\n{FOUR}", "", 4),
    "fork, sys.exit": (FORK.format(end="sys.exit(4)"), f"{TWO}4\n{FOUR}", "", 4),
    "fork, os._exit": (FORK.format(end="os._exit(5)"), f"{TWO}5\n{FOUR}", "", 4),
    "fork, raises": (
        FORK.format(end="raise ValueError('child')"),
        f"{TWO}1\n{FOUR}",
        "ValueError: child\n",
        4,
    ),
    "multiprocessing, fork": (
        SPAWN.format(method="fork"),
        f"{THREE.strip()} True __main__\n0\n{THREE}",
        "",
        3,
    ),
    "multiprocessing, spawn": (
        SPAWN.format(method="spawn"),
        f"{THREE.strip()} False __mp_main__\n0\n{THREE}",
        "",
        3,
    ),
    "multiprocessing, forkserver": (
        SPAWN.format(method="forkserver"),
        f"{THREE.strip()} False __mp_main__\n0\n{THREE}",
        "",
        3,
    ),
    "workers, fork": (WORKERS.format(method="fork"), "True\n", "", 2),
    "workers, spawn": (WORKERS.format(method="spawn"), "True\n", "", 2),
    "workers, forkserver": (WORKERS.format(method="forkserver"), "True\n", "", 2),
    "thread": (THREAD.format(join="thread.join()\nprint(results[0])"), THREE, "", 3),
    "thread that is not joined": (THREAD.format(join=""), "", "", 3),
    "daemon": (DAEMON, "end\n", "", 5),
    "starts itself": (OTHERS, f"{TWO}{THREE.strip()} False True\n{FOUR}", "", 4),
    "joins all threads": (
        "print(train(3))\n"
        "for thread in threading.enumerate():\n"
        "    if thread is not threading.main_thread():\n        thread.join()\n",
        THREE,
        "",
        3,
    ),
}


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Observed, Ended]]:
    sources = {name: script[0] for name, script in SCRIPTS.items()}
    sources["alone"] = "for _ in range(4):\n    print(train(1))\n"
    places = {tmp_path_factory.mktemp("processes"): name for name in sources}
    done = Observed.forked({place: sources[name] for place, name in places.items()})
    return {name: done[place] for place, name in places.items()}


@pytest.mark.parametrize("name", SCRIPTS)
def test_results_are_right_and_only_its_own_steps_count(
    ended: dict[str, tuple[Observed, Ended]], name: str
) -> None:
    _, stdout, stderr, epochs = SCRIPTS[name]
    losses = ended["alone"][1].stdout.splitlines()
    scripts, seen = ended[name]
    assert (seen.code, seen.stdout) == (
        0,
        stdout.format(**{f"after{count}": loss for count, loss in enumerate(losses, 1)}),
    )
    assert seen.stderr.endswith(stderr)
    assert bool(seen.stderr) == bool(stderr)
    # On a busy machine it may take long enough for a window of samples.
    left = set(os.listdir(scripts.path)) - {"samples", "loader"}
    assert left == {"run.json", "steps.arrow", "marks.arrow"}
    assert scripts.found.manifest.ended == "completed"
    steps = len(scripts.record.steps)
    assert steps == epochs * EPOCH
