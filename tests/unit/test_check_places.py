"""Places of instances: each its own, of its version, and gone afterwards."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from profkit.errors import InputError, OutputError
from profkit.probe.liveness import process_facts
from profkit.schema.budget import Budget
from profkit.scripts.target import Target
from profkit.verify import gate as gate_module
from profkit.verify import places as places_module
from profkit.verify import repository as repository_module
from profkit.verify.leftovers import left_behind
from profkit.verify.order import CheckOrder
from profkit.verify.places import VersionOrder, places
from repositories import git, make_repository, write

SCRIPT = Target("script", "train.py")
NEW, BASE = VersionOrder(SCRIPT), VersionOrder(SCRIPT, "main")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, os.devnull)
    root = make_repository(
        tmp_path / "project",
        {
            "train.py": "old",
            "removed.py": "x",
            "package/part.py": "old part",
            ".gitignore": "data/\n__pycache__/\n*.pt\n.venv/\nruns/\n",
        },
    )
    (root / "train.py").write_text("new")
    (root / "removed.py").unlink()
    write(root, {"added.py": "y"})
    monkeypatch.chdir(root)
    return root


def content(place: Path) -> set[str]:
    return {
        path.relative_to(place).as_posix()
        for path in place.rglob("*")
        if ".git" not in path.relative_to(place).parts and (path.is_symlink() or path.is_file())
    }


def beside(project: Path) -> list[str]:
    return sorted(path.name for path in project.parent.iterdir())


def test_every_instance_has_a_place_with_its_own_version(project: Path) -> None:
    (project / "train.py").chmod(0o755)
    before = content(project)
    with places((BASE, NEW), 2) as made:
        base, new = made.versions
        assert len({place.root for one in made.versions for place in one.places}) == 4
        for place in base.places:
            assert content(place.root) == {
                "train.py",
                "removed.py",
                "package/part.py",
                ".gitignore",
            }
            assert (place.directory / place.target.name).read_text() == "old"
        for place in new.places:
            assert content(place.root) == {"train.py", "added.py", "package/part.py", ".gitignore"}
            assert (place.directory / place.target.name).read_text() == "new"
            assert os.access(place.root / "train.py", os.X_OK)
        assert (base.name, base.commit) == ("main", git(project, "rev-parse", "main")[:12])
        assert (new.name, new.commit) == ("working tree", f"{base.commit}+changes")
        assert made.gaps == ()
        (new.places[0].root / "checkpoint.bin").write_text("")
        (new.places[0].root / "train.py").write_text("changed by itself")
    assert content(project) == before
    assert (project / "train.py").read_text() == "new"
    assert beside(project) == ["project"]
    assert len(git(project, "worktree", "list").splitlines()) == 1
    assert git(project, "branch") == "* main"


def test_programs_that_ask_git_find_the_same_in_both_versions(project: Path) -> None:
    with places((BASE, NEW), 1) as made:
        (base,), (new,) = (one.places for one in made.versions)
        head = git(project, "rev-parse", "HEAD")
        assert git(base.root, "rev-parse", "HEAD") == git(new.root, "rev-parse", "HEAD") == head
        assert git(base.root, "status", "--porcelain") == ""
        changes = set(git(new.root, "status", "--porcelain").splitlines())
    assert {line.split()[-1] for line in changes} == {"train.py", "removed.py", "added.py"}


def test_nothing_in_the_users_repository_changes(project: Path) -> None:
    git(project, "add", "added.py")
    before = (git(project, "status", "--porcelain"), (project / ".git" / "index").read_bytes())
    hook = project / ".git" / "hooks" / "post-checkout"
    hook.write_text("#!/bin/sh\ntouch hooked\n")
    hook.chmod(0o755)
    with places((BASE, NEW), 1) as made:
        for version in made.versions:
            assert "hooked" not in content(version.places[0].root)
    assert (git(project, "status", "--porcelain"), (project / ".git" / "index").read_bytes()) == (
        before
    )


def test_within_a_hook_of_git_the_users_index_is_left_alone(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = project / ".git" / "index"
    before = index.read_bytes()
    monkeypatch.setenv("GIT_DIR", ".git")
    monkeypatch.setenv("GIT_INDEX_FILE", str(index))
    with places((BASE, NEW), 1) as made:
        assert (made.versions[0].places[0].root / "train.py").read_text() == "old"
    assert index.read_bytes() == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_places_are_gone_after_an_exception(project: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), places((BASE, NEW), 2):
        raise error
    assert beside(project) == ["project"]
    assert len(git(project, "worktree", "list").splitlines()) == 1


WAITING = """\
import sys, time
from profkit.schema.budget import Budget
from profkit.scripts.target import Target
from profkit.verify import gate as gate_module
from profkit.verify.places import VersionOrder, places
script = Target("script", "train.py")
with places((VersionOrder(script, "main"), VersionOrder(script)), 1):
    print("made", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_check_that_is_ended_does_not_disturb_the_next_one(
    project: Path, number: signal.Signals
) -> None:
    root = str(Path(places_module.__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING],
        env={**os.environ, "PYTHONPATH": root},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "made\n"
        process.send_signal(number)
        process.wait(30)
    left = {signal.SIGTERM: 0, signal.SIGKILL: 2}[number]
    assert len(left_behind(project.parent)) == left
    assert len(beside(project)) == 1 + left
    with places((BASE, NEW), 1) as made:
        assert len(beside(project)) == 3  # what was left behind is gone already
        assert made.gaps == ()
    assert beside(project) == ["project"]
    assert len(git(project, "worktree", "list").splitlines()) == 1


def test_only_what_a_dead_check_of_this_machine_made_is_removed(tmp_path: Path) -> None:
    me = process_facts()
    names = {
        f".profkit-check-{me.machine}-{me.pid}-{me.created_s:.0f}-mine": False,
        f".profkit-check-{'0' * 16}-{me.pid}-{me.created_s:.0f}-elsewhere": False,
        f".profkit-check-{me.machine}-{me.pid}-{me.created_s - 1000:.0f}-before": True,
        ".profkit-abc": False,
        ".profkit-check-notes": False,
    }
    for name in names:
        (tmp_path / name).mkdir()
    assert {path.name for path in left_behind(tmp_path)} == {n for n, dead in names.items() if dead}


def test_the_users_own_worktree_on_a_disk_that_is_away_is_not_forgotten(project: Path) -> None:
    git(project, "worktree", "add", "-q", "--detach", str(project.parent / "away"))
    (project.parent / "away").rename(project.parent / "unplugged")
    with places((BASE,), 1):
        pass
    assert "away" in git(project, "worktree", "list")


def test_an_unknown_revision_is_named(project: Path) -> None:
    for name in ("nowhere", "--detach", "", "main:train.py"):
        order = VersionOrder(SCRIPT, name)
        with pytest.raises(InputError, match=f"no revision '{name}' in this repository"):
            places((order, NEW), 1).__enter__()
    assert beside(project) == ["project"]


def test_in_a_shallow_clone_the_error_says_how_to_fetch(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(project, "commit", "-q", "-am", "more")
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{project}", "clone")
    monkeypatch.chdir(tmp_path / "clone")
    git(project, "branch", "base/v1", "HEAD~1")
    advice = {
        "base/v1": "--depth=1 origin base/v1:refs/remotes/origin/base/v1",
        "origin/base/v1": "--depth=1 origin base/v1:refs/remotes/origin/base/v1",
        "HEAD~1": "--unshallow",
    }
    for name, fetch in advice.items():
        order = VersionOrder(SCRIPT, name)
        with pytest.raises(InputError, match=r"shallow clone.*fetch-depth: 0") as refused:
            places((order, NEW), 1).__enter__()
        assert f"(git fetch {fetch})" in str(refused.value)
    for name, fetch in advice.items():  # what it says helps
        git(tmp_path / "clone", "fetch", "-q", *fetch.split())
        with places((VersionOrder(SCRIPT, name),), 1) as made:
            assert (made.versions[0].places[0].root / "train.py").read_text() == "old"


def test_a_branch_that_only_the_remote_has_is_found(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(project, "branch", "feature/fast")
    git(tmp_path, "clone", "-q", str(project), "clone")  # as CI does: one branch only
    monkeypatch.chdir(tmp_path / "clone")
    with places((VersionOrder(SCRIPT, "feature/fast"),), 1) as made:
        assert made.versions[0].name == "origin/feature/fast"


def test_without_git_a_revision_is_an_error_and_a_copy_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "plain", {"train.py": "new", "old.py": "old", "runs/old/log": "x"})
    monkeypatch.chdir(tmp_path / "plain")
    with pytest.raises(InputError, match="main needs a git repository, and there is none here"):
        places((BASE, NEW), 1).__enter__()
    with places((VersionOrder(Target("script", "old.py"), name="old.py"), NEW), 2) as made:
        assert [one.commit for one in made.versions] == [None, None]
        assert [one.name for one in made.versions] == ["old.py", "working tree"]
        for version in made.versions:
            for place in version.places:
                assert content(place.root) == {"train.py", "old.py"}
    assert os.listdir(tmp_path) == ["plain"]


def test_without_git_installed_it_says_so(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(project))
    with pytest.raises(InputError, match="needs git: install it"):
        places((BASE,), 1).__enter__()


def test_without_git_a_large_directory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "plain", {"train.py": "new"})
    monkeypatch.chdir(tmp_path / "plain")
    monkeypatch.setattr("profkit.scripts.workplace.LIMIT_BYTES", 2)
    with pytest.raises(InputError, match="too large to copy for each instance"):
        places((NEW,), 1).__enter__()


def test_a_directory_that_the_repository_ignores_is_no_part_of_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(project / "data", {"train.py": "ignored"})
    monkeypatch.chdir(project / "data")
    with places((NEW,), 1) as made:
        assert content(made.versions[0].places[0].root) == {"train.py"}
        assert made.repository == project / "data"


def test_an_unborn_branch_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "young", {"train.py": "new"})
    git(tmp_path / "young", "init", "-q")
    monkeypatch.chdir(tmp_path / "young")
    with places((NEW,), 1) as made:
        assert content(made.versions[0].places[0].root) == {"train.py"}
        assert made.versions[0].commit is None
        assert made.gaps == ("the copies of the working tree are no git repositories",)
    assert os.listdir(tmp_path) == ["young"]


def test_each_instance_has_its_own_copy_of_what_is_ignored_and_small(project: Path) -> None:
    write(project / "data", {"one.bin": "1", "deep/two.bin": "2"})
    write(project, {"best.pt": "weights", ".venv/pyvenv.cfg": "", "runs/old/steps": ""})
    write(project, {"package/__pycache__/part.pyc": "", "__pycache__/x.pyc": ""})
    with places((BASE, NEW), 2) as made:
        for version in made.versions:
            for place in version.places:
                ignored = content(place.root) - {
                    *("train.py", "removed.py", "added.py", "package/part.py", ".gitignore")
                }
                assert ignored == {"data/one.bin", "data/deep/two.bin", "best.pt"}
                (place.root / "best.pt").write_text("overwritten")
                (place.root / "data" / "one.bin").write_text("overwritten")
        assert made.gaps == ()
        assert made.shared == ()
    assert (project / "best.pt").read_text() == "weights"
    assert (project / "data" / "one.bin").read_text() == "1"


def test_large_data_is_linked_and_large_outputs_are_left_out(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("profkit.verify.ignored.LIMIT_BYTES", 100)
    write(project, {".gitignore": "data/\nOutputs/\n*.pt\nsmall/\n", "small/a": "1"})
    write(project, {"data/images": "x" * 200, "Outputs/log": "x" * 200, "best.pt": "x" * 200})
    with places((BASE, NEW), 2) as made:
        for version in made.versions:
            for place in version.places:
                assert (place.root / "data").resolve() == project / "data"
                assert (place.root / "small" / "a").read_text() == "1"
                assert not (place.root / "small").is_symlink()
                assert not (place.root / "Outputs").exists()
                assert not (place.root / "best.pt").exists()
        assert made.shared == (project / "data",)
        linked, left_out = made.gaps
        assert linked.startswith("data: ignored by git and large")
        assert left_out.startswith("Outputs, best.pt: ")


def test_what_a_revision_tracks_is_not_replaced_by_what_is_ignored_now(project: Path) -> None:
    git(project, "checkout", "-q", "-f", "-b", "before")
    write(project, {"config.pt": "tracked then"})
    git(project, "add", "-f", "config.pt")
    git(project, "commit", "-q", "-m", "tracked")
    git(project, "checkout", "-q", "main")
    write(project, {"config.pt": "ignored now"})
    with places((VersionOrder(SCRIPT, "before"), NEW), 1) as made:
        (base,), (new,) = (one.places for one in made.versions)
        assert (base.root / "config.pt").read_text() == "tracked then"
        assert (new.root / "config.pt").read_text() == "ignored now"


def test_links_lead_into_the_copy(project: Path) -> None:
    (project / "inside").symlink_to(project / "package")
    (project / "relative").symlink_to("package/part.py")
    (project.parent / "elsewhere").mkdir()
    (project / "outside").symlink_to("../elsewhere")
    with places((NEW,), 1) as made:
        root = made.versions[0].places[0].root
        assert (root / "inside").resolve() == root / "package"
        assert (root / "relative").resolve() == root / "package" / "part.py"
        assert (root / "outside").resolve() == project.parent / "elsewhere"


def test_a_copy_that_is_too_large_is_made_once_for_all_instances(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places_module, "LIMIT_FILES", 3)
    with places((BASE, NEW), 3) as made:
        for version in made.versions:
            assert len(version.places) == 3
            assert len({place.root for place in version.places}) == 1
        assert [gap.partition(" is over")[0] for gap in made.gaps] == ["main", "working tree"]


def test_the_program_is_named_as_from_the_same_directory(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project / "package")
    inside, outside = str(project / "package" / "part.py"), str(project.parent / "data")
    arguments = {
        "part.py": "part.py",
        "--config=../train.py": "--config=../train.py",
        "../../project/train.py": "{root}/train.py",
        inside: "{root}/package/part.py",
        f"--part={inside}": "{root}/package/part.py",
        f"data.path={project}": "data.path={root}",
        f"{project}/lr=1/a": "{root}/lr=1/a",
        outside: outside,
        "../../data": "../../data",
        "--epochs": "--epochs",
        "3": "3",
        "/": "/",
        "": "",
    }
    arguments[f"--part={inside}"] = "--part={root}/package/part.py"
    target = Target("script", "../train.py", tuple(arguments))
    with places((VersionOrder(target, "main"), VersionOrder(target)), 1) as made:
        for version in made.versions:
            (place,) = version.places
            assert place.directory == place.root / "package"
            assert place.target.name == "../train.py"
            wanted = [one.replace("{root}", str(place.root)) for one in arguments.values()]
            assert list(place.target.arguments) == wanted


def test_a_script_given_by_its_absolute_path_is_each_versions_own(project: Path) -> None:
    target = Target("script", str(project / "train.py"))
    with places((VersionOrder(target, "main"), VersionOrder(target)), 1) as made:
        names = [one.places[0].target.name for one in made.versions]
        assert [Path(name).read_text() for name in names] == ["old", "new"]


def test_a_script_that_the_base_does_not_have_is_named(project: Path) -> None:
    target = Target("script", "added.py")
    with pytest.raises(InputError, match=r"added\.py does not exist in main.*--base"):
        places((VersionOrder(target, "main"), VersionOrder(target)), 1).__enter__()
    assert beside(project) == ["project"]


def test_where_the_parent_cannot_be_written_places_lie_elsewhere(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    access = os.access

    def refuse(path: Path, mode: int) -> bool:
        return False if path == project.parent else access(path, mode)

    monkeypatch.setattr(places_module.os, "access", refuse)
    monkeypatch.setattr(places_module.tempfile, "gettempdir", lambda: str(scratch))
    target = Target("script", "train.py", ("../data",))
    with places((VersionOrder(target),), 1) as made:
        (place,) = made.versions[0].places
        assert place.root.parent == scratch
        assert place.target.arguments == (str(project.parent / "data"),)
        assert len(made.gaps) == 1


def test_an_instance_that_starts_anew_meets_nothing_of_its_predecessor(project: Path) -> None:
    with places((BASE, NEW), 1) as made:
        for version, text in zip(made.versions, ("old", "new"), strict=True):
            (first,) = version.places
            (first.root / "out").mkdir()
            again = version.another()
            assert again.root != first.root
            assert not (again.root / "out").exists()
            assert (again.directory / again.target.name).read_text() == text
    assert beside(project) == ["project"]
    assert len(git(project, "worktree", "list").splitlines()) == 1


def test_submodules_come_along_at_the_commit_of_their_version(
    project: Path, tmp_path: Path
) -> None:
    library = make_repository(tmp_path / "library", {"lib.py": "one"})
    git(project, "submodule", "add", "-q", str(library), "lib")
    git(project, "commit", "-q", "-m", "with a library")
    git(project, "branch", "with-one")
    write(project / "lib", {"lib.py": "two"})
    git(project / "lib", "commit", "-q", "-am", "second")
    write(project / "lib", {"lib.py": "three"})
    with places((VersionOrder(SCRIPT, "with-one"), NEW), 1) as made:
        (base,), (new,) = (one.places for one in made.versions)
        assert (base.root / "lib" / "lib.py").read_text() == "one"
        assert (new.root / "lib" / "lib.py").read_text() == "three"
        assert made.gaps == ()
    assert len(git(project / "lib", "worktree", "list").splitlines()) == 1
    git(project, "submodule", "deinit", "-q", "-f", "lib")
    with places((VersionOrder(SCRIPT, "with-one"), NEW), 1) as made:
        assert [gap.split()[:2] for gap in made.gaps] == [["submodule", "lib"]] * 2


def test_environments_and_runs_that_git_does_not_ignore_are_not_copied(project: Path) -> None:
    (project / ".gitignore").write_text("")
    kept = {"new/a.py", "new/env.py", "runs.py"}
    left = {"env/pyvenv.cfg", "env/lib/b.py", "runs/one/log", "new/__pycache__/a.pyc"}
    write(project, dict.fromkeys(kept | left, "x"))
    write(project, {"package/runs/tracked.py": "x"})
    git(project, "add", "package")
    with places((NEW,), 1) as made:
        found = content(made.versions[0].places[0].root)
    assert kept | {"package/runs/tracked.py", "train.py"} <= found
    assert not left & found


def test_another_worktree_within_the_working_tree_is_not_copied(project: Path) -> None:
    git(project, "worktree", "add", "-q", "--detach", "trees/other")
    with places((NEW,), 1) as made:
        assert not (made.versions[0].places[0].root / "trees").exists()


def test_names_with_spaces_newlines_and_other_letters_survive(project: Path) -> None:
    names = {"a b.py", "new\nline.py", "é模.py", "-x.py"}
    write(project, dict.fromkeys(names, "x"))
    git(project, "add", "--", *names)
    git(project, "commit", "-q", "-m", "names")
    with places((BASE, NEW), 1) as made:
        for version in made.versions:
            assert names <= content(version.places[0].root)


def test_what_git_refuses_is_told_in_its_words(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = git(project, "rev-parse", "main:train.py")
    (project / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(OutputError, match=r"git cannot check main out .*: .+; repair it"):
        places((BASE,), 1).__enter__()
    assert beside(project) == ["project"]

    def refuse(*arguments: object) -> str:
        raise repository_module.GitError("detected dubious ownership in repository")

    monkeypatch.setattr(repository_module, "_git", refuse)
    with pytest.raises(InputError, match="detected dubious ownership"):
        places((NEW,), 1).__enter__()


def test_a_program_that_is_checked_from_a_hook_asks_its_own_repository(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(project / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(project / ".git" / "index"))
    with places((BASE,), 1) as made:
        place = made.versions[0].places[0]
        started = gate_module._launch(CheckOrder(SCRIPT, Budget()), place, project / "log", "main")
        git_says = subprocess.check_output(
            ["git", "rev-parse", "--path-format=absolute", "--git-dir"],
            cwd=started.place,
            env=dict(started.environment),
            text=True,
        )
    assert "/worktrees/" in git_says
