"""Nothing in the package opens a file in a way that runs what is written in it.

The rule is a function over (source, path); it judges the package and, further down, planted violations.
"""

import ast

import pytest

from tests.test_house import package_files, report

RUNS_WHAT_IT_READS = {
    "pickle",
    "cPickle",
    "_pickle",
    "dill",
    "cloudpickle",
    "marshal",
    "shelve",
    "joblib",
    "jsonpickle",
}
"""Libraries whose files are programs."""
LOADERS = {"load_checkpoint", "unsafe_load", "full_load", "read_pickle", "load_state_dict_from_url"}
"""Functions and methods, of DeepSpeed, PyYAML, pandas and torch, that unpickle."""


def unpickling(source: str, path: str) -> list[str]:
    """Calls and imports by which a file could run code."""
    found = []
    for node in ast.walk(ast.parse(source)):
        for name in _imported(node):
            if set(name.split(".")) & RUNS_WHAT_IT_READS:
                found.append(f"{path}:{node.lineno}: imports {name}, which runs what it reads")
        if isinstance(node, ast.Call) and (wrong := _wrong(node)):
            found.append(f"{path}:{node.lineno}: {wrong}")
    return found


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def _wrong(call: ast.Call) -> str | None:
    name = ast.unparse(call.func)
    options = {option.arg: ast.unparse(option.value) for option in call.keywords}
    if name == "torch.load" and options.get("weights_only") != "True":
        return "torch.load without weights_only=True"
    if options.get("allow_pickle", "False") != "False":
        return "allow_pickle may be on"
    if name == "yaml.load":
        return "yaml.load; yaml.safe_load reads data alone"
    if name in ("torch.jit.load", "torch.package.PackageImporter") or name.startswith("torch.hub."):
        return f"{name} brings code along"
    if name.rpartition(".")[2] in LOADERS:
        return f"{name} unpickles"
    return None


def test_no_file_is_opened_in_a_way_that_could_run_what_is_in_it():
    violations = [line for path, source in package_files().items() for line in unpickling(source, path)]
    assert not violations, report(violations)


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(file)",
        "torch.load(file, weights_only=False)",
        "torch.load(file, weights_only=trust)",
        "import pickle",
        "from pickle import loads",
        "import ray.cloudpickle",
        "from ray import cloudpickle",
        "numpy.load(file, allow_pickle=True)",
        "engine.load_checkpoint(folder)",
        "yaml.load(text, Loader=yaml.Loader)",
        "yaml.unsafe_load(text)",
        "torch.hub.load('a', 'b')",
        "torch.jit.load(file)",
    ],
)
def test_a_way_to_run_what_is_read_is_seen(source):
    assert len(unpickling(source, "train/loop.py")) == 1


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(file, map_location='cpu', weights_only=True)",
        "numpy.load(file)",
        "numpy.load(file, allow_pickle=False)",
        "yaml.safe_load(text)",
        "json.load(file)",
        "engine.load_state_dict(weights)",
    ],
)
def test_a_way_to_read_data_alone_is_allowed(source):
    assert unpickling(source, "train/loop.py") == []
