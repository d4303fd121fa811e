"""The image: what is sent to its build, who it runs as, and that it cannot start Ray open to everybody."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "docker/Dockerfile").read_text()
IGNORED = (ROOT / ".dockerignore").read_text().split("\n")


def instructions(name: str) -> list[str]:
    """The arguments of each instruction of this name, continued lines joined, comments left out."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [line.removeprefix(f"{name} ") for line in lines if line.startswith(f"{name} ")]


def test_the_build_is_sent_what_it_copies_and_nothing_else():
    copied = {source for line in instructions("COPY") for source in line.split()[:-1]}
    assert "*" in IGNORED
    assert copied == {line.removeprefix("!") for line in IGNORED if line.startswith("!")}


def test_versions_come_from_the_constraints():
    installs = [line for line in instructions("RUN") if "pip install" in line]
    assert installs
    assert all("--constraint constraints.txt" in line or "--no-deps" in line for line in installs)


def test_containers_do_not_run_as_root():
    (user,) = instructions("USER")
    assert user == "ray"
    assert any(
        f"useradd --create-home --uid 1000 --shell /bin/bash {user} " in line for line in instructions("RUN")
    )


@pytest.mark.parametrize(
    "setting",
    ["RAY_AUTH_MODE=token", "RAY_USAGE_STATS_ENABLED=0", "HOME=/home/ray", "PYTHONUNBUFFERED=1"],
)
def test_the_environment_is_spelled_out(setting):
    assert setting in " ".join(instructions("ENV")).split()


def test_the_python_of_the_image_is_one_the_package_supports():
    (argument,) = instructions("ARG")
    minimum = re.search(r'requires-python = ">=(\d+)\.(\d+)"', (ROOT / "pyproject.toml").read_text())
    version = re.fullmatch(r"PYTHON_IMAGE=python:(\d+)\.(\d+)-slim", argument)
    assert tuple(map(int, version.groups())) >= tuple(map(int, minimum.groups()))
