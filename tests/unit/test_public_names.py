"""The public names of the package, beside its subpackages."""

import pkgutil
import subprocess
import sys

import profkit


def assert_runs(code: str) -> None:
    """In a process that has loaded nothing yet."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_no_public_name_is_also_a_subpackage_or_module() -> None:
    # Importing `profkit.report` would put the module in the place of the function.
    modules = {module.name for module in pkgutil.iter_modules(profkit.__path__)}
    assert not modules & set(profkit.__all__)


def test_public_names_load_on_first_use_and_import_stays_light() -> None:
    code = (
        "import sys, profkit\n"
        "heavy = {'torch', 'numpy', 'pandas', 'pyarrow'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "for name in profkit.__all__: getattr(profkit, name)\n"
    )
    assert_runs(code)


def test_watching_is_no_part_of_a_step_that_is_not_observed() -> None:
    code = (
        "import sys, profkit\n"
        "before = set(sys.modules)\n"
        "assert list(profkit.watch([1, 2])) == [1, 2]\n"
        "added = set(sys.modules) - before\n"
        "assert added == {'profkit.watching'}, added\n"
    )
    assert_runs(code)
