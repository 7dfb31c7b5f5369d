"""The floors of the library: a module imports from its own floor and those below, and no imports form a circle."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "dpo_lib"
FLOORS = (  # from the ground up; modules and folders of one line do not import each other, the ground floor's may
    ("checks", "compiled", "decoding", "files", "histograms", "images", "metrics", "parameters", "processes")
    + ("progress", "randomness", "records", "text", "timing"),
    ("operators", "models"),
    ("data",),
    ("training", "evaluation", "analysis", "plotting", "comparison", "apply"),
    ("widgets", "experiments", "notebooks"),
    ("commands",),
    ("__init__",),
    ("__main__",),
)
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def imports_of(path: Path) -> set[tuple[str, ...]]:
    """The files of the package that a file imports, those of imports inside functions too, as parts of their paths."""
    here, found = path.relative_to(PACKAGE).parent.parts, set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = here[: len(here) - node.level + 1] + tuple((node.module or "").split(".") if node.module else ())
            found |= {file for alias in node.names if (file := file_of((*base, alias.name)) or file_of(base))}
        elif isinstance(node, (ast.Import, ast.ImportFrom)):  # the package itself is imported by relative names only
            names = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            assert not any(name.split(".")[0] == PACKAGE.name for name in names), path
    return found


def file_of(parts: tuple[str, ...]) -> tuple[str, ...] | None:
    """The file that a dotted name stands for, None for a name inside a module."""
    if PACKAGE.joinpath(*parts).with_suffix(".py").is_file():
        return parts
    return (*parts, "__init__") if PACKAGE.joinpath(*parts, "__init__.py").is_file() else None


ARROWS = {path.relative_to(PACKAGE).with_suffix("").parts: imports_of(path) for path in PACKAGE.rglob("*.py")}


def test_every_room_has_its_floor():
    assert {parts[0] for parts in ARROWS} == FLOOR_OF.keys()


def test_no_arrow_runs_up_or_between_neighbours():
    for source, targets in ARROWS.items():
        for target in targets:
            own, other = FLOOR_OF[source[0]], FLOOR_OF[target[0]]
            assert other < own or source[0] == target[0] or own == other == 0, f"{source} imports {target}"


def test_no_circle():
    left = dict(ARROWS)
    while free := [file for file, targets in left.items() if not targets & left.keys()]:
        left = {file: targets for file, targets in left.items() if file not in free}
    assert not left, f"imports in a circle, or above one: {sorted('.'.join(file) for file in left)}"


TESTED_ELSEWHERE = {
    ("__main__",): "package",  # with what importing the package loads
    ("experiments", "collect"): "experiments",  # a run from its beginning to the table needs both
    ("experiments", "properties"): "experiments",
}


def test_every_module_has_its_test():
    tests = Path(__file__).parent
    for module in ARROWS:
        name = TESTED_ELSEWHERE.get(module, module[-1])
        assert name == "__init__" or (tests / f"test_{name}.py").is_file(), f"{'/'.join(module)}.py has no test"
    assert TESTED_ELSEWHERE.keys() <= ARROWS.keys()


def test_test_files_do_not_import_each_other():
    """What several of them need is in conftest.py or in a module that is no test."""
    for path in Path(__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not any(name.startswith(("test_", "tests", "conftest")) for name in names), path.name


CALLED = ("__init__", "__call__")


def public_functions(path: Path):
    """The functions and methods that a module offers, by name."""
    waiting = [("", node) for node in ast.parse(path.read_text(encoding="utf-8")).body]
    for owner, node in waiting:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            waiting += [(f"{node.name}.", inner) for inner in node.body]
        elif isinstance(node, ast.FunctionDef) and (node.name in CALLED or not node.name.startswith("_")):
            yield owner + node.name, node


def test_public_functions_are_annotated():
    for path in PACKAGE.rglob("*.py"):
        for name, function in public_functions(path):
            given = function.args
            bare = [a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs) if a.annotation is None]
            bare = [argument for argument in bare if argument not in ("self", "cls")]
            result = function.returns is not None or function.name == "__init__"
            assert not bare and result, f"{path.name}: {name} leaves {bare or 'its result'} without a type"
