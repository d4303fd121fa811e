"""The name of the code that ran, where Git has no say."""

import subprocess

import pytest

from mae_dist.orchestrate.provenance import tree_id


@pytest.fixture
def package(tmp_path):
    """A checkout whose folder `package` has what Git sorts and writes in its own way."""
    folder = tmp_path / "package"
    (folder / "data").mkdir(parents=True)
    for name in ("data/order.py", "data.py", "data-page.css", "änderung.txt", "empty.py"):
        (folder / name).write_text("" if name == "empty.py" else f"# {name}\n")
    (folder / "run.sh").write_text("true\n")
    (folder / "run.sh").chmod(0o755)
    return folder


def git(folder, *arguments):
    return subprocess.run(
        ["git", "-C", str(folder), "-c", "user.name=Test", "-c", "user.email=test@example.org", *arguments],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()


def test_the_tree_has_the_name_that_git_gives_it(package):
    git(package.parent, "init", "-q")
    git(package.parent, "add", "--all")
    git(package.parent, "commit", "-q", "-m", "Test")
    assert tree_id(package) == git(package.parent, "rev-parse", "HEAD:package")


def test_what_running_the_code_leaves_behind_does_not_count(package):
    before = tree_id(package)
    (package / "data" / "__pycache__").mkdir()
    (package / "data" / "__pycache__" / "order.cpython-311.pyc").write_bytes(b"\0")
    assert tree_id(package) == before


def test_another_line_of_code_is_another_tree(package):
    before = tree_id(package)
    (package / "data" / "order.py").write_text("# changed\n")
    assert tree_id(package) != before
