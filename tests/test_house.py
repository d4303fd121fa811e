"""The floors and walls of the house: who may import whom, and what a file may look like.

    cli -> orchestrate -> evaluate | report -> train -> model | data -> config, storage

Each rule is a function over (source, path); the same functions judge the repository and, further down,
planted violations, so a rule that has stopped seeing anything fails here too.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase as fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "mae_dist"
LINE_LIMIT = 350

# A part imports its own floor's number or a lower one.
FLOORS = {
    "config": 0,
    "storage": 0,
    "model": 1,
    "data": 1,
    "train": 2,
    "evaluate": 3,
    "report": 3,
    "orchestrate": 4,
    "cli": 5,
}
OFFERED = "mae_dist.model.pretrained"
"""What users import from the package itself, which imports it when they do."""
# Neighbours on one floor with a wall between them.
APART = [{"model", "data"}, {"evaluate", "report"}]

# Each of these libraries is known to the listed files and to nobody else.
ROOMS = {
    "ray": {
        "data/plan.py",
        "data/spread.py",
        "train/worker.py",
        "train/elastic.py",
        "train/launch.py",
        "train/notices.py",
        "train/spares.py",
        # Evaluations that train nothing on the stream: Ray Data feeds the frozen encoder.
        "evaluate/cluster.py",
        "orchestrate/cluster.py",
        "orchestrate/process.py",
        "orchestrate/failure.py",
    },
    "deepspeed": {"train/zero.py"},
    "av": {"data/video/"},
    "torchcodec": {"data/video/torchcodec.py"},
    "simplejpeg": {"data/jpeg.py"},
    "mlflow": {"report/tracking.py"},
    "fsspec": {"storage/"},
    "s3fs": {"storage/"},
    "boto3": {"storage/"},
    "botocore": {"storage/"},
    "aiobotocore": {"storage/"},
}
# These files answer before torch has been loaded: `--help`, config checks, the sample order and the look at
# the inputs are instant.
WITHOUT_TORCH = (
    "config/",
    "storage/",
    "data/order.py",
    "data/permutation.py",
    "data/turns.py",
    "orchestrate/step.py",
    "orchestrate/store.py",
    "orchestrate/state.py",
    "orchestrate/requests.py",
    "orchestrate/admission.py",
    "orchestrate/preflight.py",
)
NAMES_WITHOUT_A_NOUN = {"utils", "util", "misc", "helpers", "helper", "common", "base"}

# Put together from halves, so that this file passes its own test.
MACHINE_TRACES = re.compile(
    "|".join(
        [
            r"(?<![\w.-])/wo" + r"rk/",
            r"/tmp/t" + r"v\b",
            r"(?<![\w.-])/ro" + r"ot/",
            r"inde" + r"x-url",
            r"find" + r"-links",
        ]
    )
)


def imported_names(source: str) -> Iterator[tuple[int, str]]:
    """Each imported dotted name with its line, wherever it stands: top, function, TYPE_CHECKING.

    `from a import b` gives `a.b`, because `b` may be a module; relative imports keep their dots.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield node.lineno, "." * node.level + ".".join(filter(None, [node.module, alias.name]))
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in (
            "import_module",
            "__import__",
        ):
            for argument in node.args[:1]:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield node.lineno, argument.value


def part_of(path: str) -> str:
    """`data/plan.py` is of `data`, the package's own `__init__.py` of ''; others beside it of none."""
    return "" if path == "__init__.py" else path.split("/")[0]


def is_within(path: str, places: set[str] | tuple[str, ...]) -> bool:
    return any(fnmatch(path, place + "*" * place.endswith("/")) for place in places)


def floor_violations(source: str, path: str) -> list[str]:
    """Imports inside the package that point up, pass through a wall, or are relative."""
    part = part_of(path)
    if part and part not in FLOORS:
        return [f"{path}: stands on no floor; add {part!r} to FLOORS or move the file into {sorted(FLOORS)}"]
    found = []
    for line, name in imported_names(source):
        if name.startswith("."):
            found.append(f"{path}:{line}: relative import of {name!r}; write it out from {PACKAGE!r}")
            continue
        top, _, rest = name.partition(".")
        target = rest.split(".")[0]
        if top != PACKAGE or target not in FLOORS or target == part:
            continue
        if not part and not name.startswith(OFFERED):
            found.append(f"{path}:{line}: imports {name}; the package itself imports none but {OFFERED}")
        elif not part:
            continue
        elif FLOORS[target] > FLOORS[part]:
            found.append(f"{path}:{line}: imports {name}, which is a floor above; imports point down")
        elif {part, target} in APART:
            found.append(f"{path}:{line}: imports {name}; {part} and {target} do not know each other")
    return found


def wall_violations(source: str, path: str) -> list[str]:
    """Libraries that are imported outside the one place that may know them."""
    found = []
    for line, name in imported_names(source):
        library = name.split(".")[0]
        if library in ROOMS and not is_within(path, ROOMS[library]):
            found.append(f"{path}:{line}: imports {library}; only {', '.join(sorted(ROOMS[library]))} may")
        if library == "torch" and is_within(path, WITHOUT_TORCH):
            found.append(f"{path}:{line}: imports torch; {', '.join(WITHOUT_TORCH)} do without it")
    return found


def shape_violations(source: str, path: str) -> list[str]:
    """A file without a noun in its name, without a first sentence, or with more than one subject."""
    found = []
    for name in path.removesuffix(".py").split("/"):
        if NAMES_WITHOUT_A_NOUN & set(name.split("_")):
            found.append(f"{path}: {name!r} says nothing; name it for the noun it owns")
    num_lines = len(source.splitlines())
    if num_lines > LINE_LIMIT:
        found.append(f"{path}: {num_lines} lines; past {LINE_LIMIT} a file wants to be two nouns")
    if source.strip() and not ast.get_docstring(ast.parse(source)):
        found.append(f"{path}: begins without a docstring; say in one sentence what the file owns")
    return found


def machine_traces(text: str, path: str) -> list[str]:
    """Paths and settings of the machine a file was written on."""
    return [
        f"{path}:{number}: holds {match.group()!r}, which exists on one machine only"
        for number, line in enumerate(text.splitlines(), start=1)
        if (match := MACHINE_TRACES.search(line))
    ]


def package_files() -> dict[str, str]:
    """Source by path inside the package."""
    folder = ROOT / PACKAGE
    return {path.relative_to(folder).as_posix(): path.read_text() for path in sorted(folder.rglob("*.py"))}


def tracked_files() -> dict[str, str]:
    """Text by path, of what is committed or staged; a binary file gives what of it reads as ASCII."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    paths = [path for path in listed.stdout.split("\0") if path and (ROOT / path).is_file()]
    assert paths, "git lists no files; this test reads the repository, so it needs a checkout"
    return {path: (ROOT / path).read_text(encoding="ascii", errors="ignore") for path in paths}


def report(violations: list[str]) -> str:
    return "\n".join(["", *violations])


def test_imports_point_down_or_stay_level():
    violations = [line for path, source in package_files().items() for line in floor_violations(source, path)]
    assert not violations, report(violations)


def test_each_library_is_known_only_where_it_is_used():
    violations = [line for path, source in package_files().items() for line in wall_violations(source, path)]
    assert not violations, report(violations)


def test_every_source_file_has_a_noun_a_first_sentence_and_a_bounded_length():
    sources = package_files()
    for folder in ("jobs", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            sources[path.relative_to(ROOT).as_posix()] = path.read_text()
    violations = [line for path, source in sources.items() for line in shape_violations(source, path)]
    assert not violations, report(violations)


def test_no_tracked_file_holds_a_trace_of_a_machine():
    violations = [line for path, text in tracked_files().items() for line in machine_traces(text, path)]
    assert not violations, report(violations)


def test_what_must_answer_at_once_loads_neither_torch_nor_ray():
    """The walls forbid the direct import; this catches the one that arrives through another module."""
    modules = [
        ".".join([PACKAGE, *path.removesuffix(".py").removesuffix("/__init__").split("/")])
        for path in package_files()
        if is_within(path, WITHOUT_TORCH)
    ]
    code = f"import {', '.join(modules)}, sys; print(*{{'torch', 'ray'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [], f"importing {modules} loads them"


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("model/encoder.py", "import mae_dist.train.loop"),
        ("model/encoder.py", "from mae_dist import train"),
        ("model/encoder.py", "from mae_dist.data import masking"),
        ("model/encoder.py", "from . import patches"),
        ("data/masking.py", "def f():\n    from mae_dist.model.patches import patchify"),
        ("config/schema.py", "if TYPE_CHECKING:\n    from mae_dist.data.order import Order"),
        ("storage/__init__.py", "import mae_dist.data"),
        ("storage/local.py", "from mae_dist import data"),
        ("evaluate/probes.py", "from mae_dist.report.html import page"),
        ("report/html.py", "import mae_dist.evaluate"),
        ("train/loop.py", "import importlib\nimportlib.import_module('mae_dist.orchestrate.step')"),
        ("orchestrate/runner.py", "from mae_dist.cli.main import main"),
        ("__init__.py", "from mae_dist.config import load"),
        ("plumbing/pipe.py", ""),
        ("toolbox.py", ""),
    ],
)
def test_an_import_that_points_up_or_through_a_wall_is_seen(path, source):
    assert len(floor_violations(source, path)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (
            "cli/main.py",
            "from mae_dist import storage, config, model, data, train, evaluate, report, orchestrate",
        ),
        ("train/worker.py", "from mae_dist.data.plan import plan\nfrom mae_dist.model import mae"),
        (
            "data/video.py",
            "from mae_dist.data.frames import indices\nfrom mae_dist.config.geometry import Grid",
        ),
        ("config/load.py", "from mae_dist import storage"),
        ("storage/__init__.py", "from mae_dist.storage.local import LocalPlace"),
        ("train/launch.py", "from mae_dist import __version__"),
        ("model/vit.py", "import torch\nimport mae_distant.cli"),
    ],
)
def test_an_import_that_points_down_or_stays_inside_its_part_is_allowed(path, source):
    assert floor_violations(source, path) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("cli/main.py", "import ray"),
        ("train/loop.py", "from ray.train import report"),
        ("train/loop.py", "import deepspeed.comm as dist"),
        ("train/engine.py", "def f():\n    import deepspeed"),
        ("data/frames.py", "import av.container"),
        ("data/catalog.py", "import fsspec"),
        ("config/load.py", "__import__('s3fs')"),
        ("config/geometry.py", "import torch.nn"),
        ("storage/__init__.py", "from torch import Tensor"),
        ("storage/local.py", "import torch"),
        ("report/run_files.py", "from botocore.exceptions import ClientError"),
        ("data/order.py", "import torch"),
        ("orchestrate/step.py", "import torch"),
    ],
)
def test_a_library_outside_its_room_is_seen(path, source):
    assert len(wall_violations(source, path)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        *[
            (path, f"import {library}")
            for library, places in sorted(ROOMS.items())
            for path in sorted(place + "client.py" * place.endswith("/") for place in places)
        ],
        ("data/masking.py", "import torch"),
        ("data/catalog.py", "import rayleigh, avatar"),
    ],
)
def test_a_library_inside_its_room_is_allowed(path, source):
    assert wall_violations(source, path) == []


@pytest.mark.parametrize(
    ("path", "source", "complaint"),
    [
        ("data/utils.py", '"""Owns."""', "says nothing"),
        ("data/video_helpers.py", '"""Owns."""', "says nothing"),
        ("common/clip.py", '"""Owns."""', "says nothing"),
        ("model/base.py", '"""Owns."""', "says nothing"),
        ("data/video.py", "import os\n", "without a docstring"),
        ("data/__init__.py", "import os\n", "without a docstring"),
        ("data/video.py", '"""Owns."""\n' + "x = 1\n" * LINE_LIMIT, "351 lines"),
    ],
)
def test_a_misshapen_file_is_seen(path, source, complaint):
    (violation,) = shape_violations(source, path)
    assert complaint in violation


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("data/__init__.py", ""),
        ("data/database.py", '"""Owns the database."""\n'),
        ("data/video.py", '"""Owns."""\n' + "x = 1\n" * (LINE_LIMIT - 1)),
    ],
)
def test_a_well_shaped_file_passes(path, source):
    assert shape_violations(source, path) == []


@pytest.mark.parametrize(
    "text",
    [
        "cd /wo" + "rk/main",
        "uri = 'file:///wo" + "rk/shared'",
        "/tmp/t" + "v/bin/python",
        "/ro" + "ot/.ray/auth_token",
        "pip install --inde" + "x-url https://example.org",
        "--find" + "-links wheels",
    ],
)
def test_a_trace_of_a_machine_is_seen(text):
    assert len(machine_traces("first line\n" + text, "notes.md")) == 1


@pytest.mark.parametrize("text", ["/home/ray/work/", "s3://bucket/frame" + "work/", "/tmp/tvm", "chroot/bin"])
def test_an_ordinary_path_is_no_trace_of_a_machine(text):
    assert machine_traces(text, "notes.md") == []
