"""Recipe files as trees of values that remember where they were written.

    YAML text -> tree -> `extends` replaced by what it names -> merged under the values beside it

`extends: file.yaml` may stand at the top or inside any mapping; it is looked for beside the file that says
it, then among the packaged recipes. `--set a.b=c` becomes a small tree that is merged last.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mae_dist.config.problems import Problem, suggestion

RECIPES = Path(__file__).parent.parent / "recipes"
STUDIES = "studies/"
"""What lies there is made of recipes, and none itself."""
_COLLECTIONS = {"tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Given:
    """A value that is no mapping, and the place that gave it."""

    value: Any
    source: str


Tree = dict[str, "Tree | Given"]


def merge(below: Tree, above: Tree) -> Tree:
    """`below` with what `above` says on top of it; mappings are merged, everything else is replaced.

    An empty mapping replaces too: `evaluations: {}` means none, where merging it would mean nothing.
    """
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict) and value:
            value = merge(old, value)
        merged[key] = value
    return merged


def plain(tree: Tree | Given) -> Any:
    """The values alone."""
    return {key: plain(value) for key, value in tree.items()} if isinstance(tree, dict) else tree.value


def source_of(tree: Tree | Given) -> str:
    """Who gave a value; of a mapping, its first value."""
    if isinstance(tree, Given):
        return tree.source
    return next((source for source in map(source_of, tree.values()) if source), "")


def recipe_names() -> list[str]:
    """Names of the packaged recipes that describe something by themselves, without the shared base_* ones."""
    return [name for name in _packaged() if not name.startswith(STUDIES)]


def study_names() -> list[str]:
    """Names of the packaged studies, as "mae/decoder_depth"."""
    return [name.removeprefix(STUDIES) for name in _packaged() if name.startswith(STUDIES)]


def find_recipe(name: str, folder: Path) -> Path | Problem:
    """The file that `name` means: a YAML file in `folder` (or by its own path), else a packaged recipe."""
    with_suffix = name if name.endswith((".yaml", ".yml")) else f"{name}.yaml"
    for place in ([folder] if with_suffix == name else []) + [RECIPES]:
        path = place / with_suffix
        if path.is_file():
            return path
    known = recipe_names()
    close = suggestion(with_suffix.removesuffix(".yaml"), known)
    return Problem("", f"no recipe {name!r}{close or '; there are ' + ', '.join(known)}")


def read_recipe(name: str, folder: Path, problems: list[Problem]) -> Tree:
    """The tree of a recipe with every `extends` resolved; what is wrong is added to `problems`."""
    return _read(name, folder, (), problems)


def read_setting(setting: str, problems: list[Problem]) -> Tree:
    """The tree of one `a.b=c`; c is read as YAML, so that null, numbers, lists and mappings can be given."""
    source = f"--set {setting}"
    dotted, equals, text = setting.partition("=")
    keys = dotted.strip().split(".")
    if not equals or not all(keys):
        problems.append(Problem("", "a setting is field.name=value, like mask.ratio=0.75", source))
        return {}
    value = _parse(text, lambda _: source, problems)
    if value is None:
        return {}
    tree: Tree | Given = value
    for key in reversed(keys):
        tree = {key: tree}
    assert isinstance(tree, dict)
    return _expand(tree, Path.cwd(), (), problems)


def _packaged() -> list[str]:
    found = (path.relative_to(RECIPES).with_suffix("").as_posix() for path in RECIPES.rglob("*.yaml"))
    return sorted(name for name in found if not name.rpartition("/")[2].startswith("base_"))


def _read(name: str, folder: Path, above: tuple[str, ...], problems: list[Problem], source: str = "") -> Tree:
    path = find_recipe(name, folder)
    if isinstance(path, Problem):
        problems.append(Problem("extends" if source else "", path.message, source, hides_more=True))
        return {}
    label = _label(path)
    if label in above:
        circle = " -> ".join([*above[above.index(label) :], label])
        problems.append(Problem("extends", f"goes in a circle: {circle}", source, hides_more=True))
        return {}
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = "is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else error.strerror
        problems.append(Problem("", f"{label} cannot be read: {reason}", source, hides_more=True))
        return {}
    tree = _parse(text, lambda line: f"{label}:{line}", problems)
    if isinstance(tree, Given):
        problems.append(
            Problem("", "a recipe is a mapping of fields to values", tree.source, hides_more=True)
        )
    return _expand(tree, path.parent, (*above, label), problems) if isinstance(tree, dict) else {}


def _expand(tree: Tree, folder: Path, above: tuple[str, ...], problems: list[Problem]) -> Tree:
    below: Tree = {}
    own: Tree = {}
    for key, value in tree.items():
        if key != "extends":
            own[key] = _expand(value, folder, above, problems) if isinstance(value, dict) else value
        elif isinstance(value, Given) and isinstance(value.value, str):
            below = _read(value.value, folder, above, problems, value.source)
        else:
            problems.append(
                Problem("extends", "must be the name of one recipe", source_of(value), hides_more=True)
            )
    return merge(below, own)


def _label(path: Path) -> str:
    """A packaged recipe by its name, another one as its user sees it from here."""
    real = path.resolve()
    if real.is_relative_to(RECIPES):
        return real.relative_to(RECIPES).as_posix()
    here = Path.cwd().resolve()
    return real.relative_to(here).as_posix() if real.is_relative_to(here) else str(real)


def _parse(text: str, source: Any, problems: list[Problem]) -> Tree | Given | None:
    """The tree of a YAML text; None, and a problem, if it is none. `source(line)` names a place in it."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        return Given(None, source(1)) if node is None else _build(node, loader, source, problems)
    except yaml.MarkedYAMLError as error:
        line = (error.problem_mark.line if error.problem_mark else 0) + 1
        problems.append(
            Problem("", f"not valid YAML: {error.problem}, line {line}", source(line), hides_more=True)
        )
    except yaml.YAMLError as error:
        problems.append(
            Problem("", f"not valid YAML: {str(error).splitlines()[0]}", source(1), hides_more=True)
        )
    except RecursionError:
        problems.append(Problem("", "not a recipe: an anchor contains itself", source(1), hides_more=True))
    finally:
        loader.dispose()
    return None


def _build(node: yaml.Node, loader: Any, source: Any, problems: list[Problem]) -> Tree | Given:
    line = node.start_mark.line + 1
    if not isinstance(node, yaml.ScalarNode) and node.tag not in _COLLECTIONS:
        raise yaml.constructor.ConstructorError(None, None, f"no such tag, {node.tag}", node.start_mark)
    if isinstance(node, yaml.SequenceNode):
        return Given([plain(_build(item, loader, source, problems)) for item in node.value], source(line))
    if not isinstance(node, yaml.MappingNode):
        try:
            return Given(loader.construct_object(node), source(line))
        except ValueError:  # looks like a date, but is none
            return Given(node.value, source(line))
    first_lines: dict[str, int] = {}
    for key, _ in node.value:
        if key.value in first_lines and key.tag != "tag:yaml.org,2002:merge":
            message = f"given twice, in lines {first_lines[key.value]} and {key.start_mark.line + 1}"
            problems.append(Problem(str(key.value), message, source(key.start_mark.line + 1)))
        first_lines[str(key.value)] = key.start_mark.line + 1
    loader.flatten_mapping(node)  # `<<: *anchor`
    tree: Tree = {}
    for key, value in node.value:
        if key.tag != "tag:yaml.org,2002:str":
            message = "a field's name must be text; put it in quotes"
            problems.append(Problem(str(key.value), message, source(key.start_mark.line + 1)))
        tree[str(key.value)] = _build(value, loader, source, problems)
    return tree
