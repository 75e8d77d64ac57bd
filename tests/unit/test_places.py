import pytest

from profkit.analyze.places import Origin, origin, short_place


@pytest.mark.parametrize(
    ("file", "short"),
    [
        (
            "/home/me/venv/lib/python3.11/site-packages/torchvision/datasets/mnist.py",
            "torchvision/datasets/mnist.py:142",
        ),
        (
            "/usr/lib/python3/dist-packages/numpy/core/fromnumeric.py",
            "numpy/core/fromnumeric.py:142",
        ),
        ("/usr/lib/python3.10/json/decoder.py", "json/decoder.py:142"),
        (r"C:\Python311\Lib\json\decoder.py", "json/decoder.py:142"),
        (r"C:\Users\me\env\Lib\site-packages\torch\optim\sgd.py", "torch/optim/sgd.py:142"),
        ("/work/checkout/profkit/probe/marks.py", "profkit/probe/marks.py:142"),
        ("/data/project/src/train.py", "src/train.py:142"),
        ("/home/alice/train.py", "train.py:142"),
        ("/home/alice/project/train.py", "project/train.py:142"),
        ("/root/train.py", "train.py:142"),
        (r"C:\Users\alice\train.py", "train.py:142"),
        ("./src/train.py", "src/train.py:142"),
        ("<frozen importlib._bootstrap>", "<frozen importlib._bootstrap>:142"),
    ],
)
def test_place_is_short_and_never_absolute(file: str, short: str) -> None:
    assert short_place(file, 142) == short


def test_project_files_are_named_relative_to_its_root() -> None:
    assert short_place("/home/me/mine/a/b/c.py", 7, root="/home/me/mine/") == "a/b/c.py:7"
    inside = "/home/me/mine/.venv/lib/python3.12/site-packages/torch/nn/functional.py"
    assert short_place(inside, 7, root="/home/me/mine") == "torch/nn/functional.py:7"


def test_unknown_line_is_left_out() -> None:
    assert short_place("/srv/x/a.py", None) == short_place("/srv/x/a.py", 0) == "x/a.py"


@pytest.mark.parametrize(
    ("file", "who"),
    [
        ("/x/lib/python3.11/site-packages/torch/_tensor.py", Origin.PACKAGE),
        ("/x/lib/python3.13t/threading.py", Origin.STDLIB),
        ("<string>", Origin.GENERATED),
        ("/x/site-packages/profkit/probe/marks.py", Origin.PROFKIT),
        ("/src/profkit/recorder.py", Origin.PROFKIT),
        ("/src/profkit/workloads/mnist.py", Origin.PROJECT),
        ("/src/myprofkit/train.py", Origin.PROJECT),
        ("/src/train.py", Origin.PROJECT),
    ],
)
def test_origin_is_told_from_the_path(file: str, who: Origin) -> None:
    assert origin(file) is who
