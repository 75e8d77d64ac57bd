import subprocess
import sys

from profkit.workloads.torchvision_repair import torchvision_state


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_datasets_and_transforms_work_after_the_import() -> None:
    code = (
        "from profkit.workloads.torchvision_repair import import_torchvision\n"
        "import_torchvision()\n"
        "import torchvision.models, torchvision.transforms.v2\n"
        "print(torchvision.models.resnet18().fc.out_features)"
    )
    assert run(code) == "1000"


def test_a_working_torchvision_is_left_alone_and_a_broken_one_repaired() -> None:
    code = "import torchvision; print('works')"
    plain = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    expected = "works" if plain.returncode == 0 else "repaired"
    assert torchvision_state().partition(":")[0] == expected


def test_the_repair_draws_no_random_number() -> None:
    code = (
        "import torch\n"
        "before = torch.get_rng_state()\n"
        "from profkit.workloads.torchvision_repair import import_torchvision\n"
        "import_torchvision()\n"
        "print(torch.equal(before, torch.get_rng_state()))"
    )
    assert run(code) == "True"


def test_a_missing_torchvision_is_said() -> None:
    code = (
        "import sys; sys.modules['torchvision'] = None\n"
        "from profkit.errors import InputError\n"
        "from profkit.workloads.torchvision_repair import import_torchvision\n"
        "try:\n"
        "    import_torchvision()\n"
        "except InputError as error:\n"
        "    print(error)"
    )
    assert run(code).startswith("torchvision is not installed: install the torchvision")
