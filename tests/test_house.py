"""The rules of the house: who imports whom, what is banned, sizes, names, addresses.

The tables at the head are the rules. Each exception stands in one of them with its reason, and an
exception that is not needed fails too.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

PACKAGES = {  # each package, and those of ours that it may import
    "app": {"engine"},
    "engine": set(),
    "party_node": {"engine"},
}

ROOMS = {  # each room of the engine, and the rooms that it may import; `errors` is open to all
    "errors": set(),
    "host": set(),
    "ring": set(),
    "prf": {"ring"},
    "rows": {"ring"},
    "wire": {"rows", "ring"},
    "step": {"rows", "wire"},
    "program": {"wire", "rows", "prf", "host", "ring"},
    "gates": {"program", "step", "functions", "wire", "rows", "ring"},
    "functions": {"ring"},
    "models": {"gates", "program", "functions", "wire", "rows", "ring"},
    "parties": {"models", "gates", "program", "step", "wire", "rows", "prf", "host", "ring"},
    "link": set(),
    "session": {"link", "rows", "step"},
    "checkpoint": {"generate"},
    "provision": {
        *("checkpoint", "generate", "parties", "models", "gates", "program", "functions"),
        *("wire", "rows", "prf", "host", "ring"),
    },
    "generate": set(),
}

ONLY_IN = {  # a library of others, and the only places of the packages that may import it
    "numba": ("engine/ring/kernels/",),
    "websockets": ("engine/link/",),
    "PySide6": ("app/",),
    "rich": ("app/",),
    "structlog": ("app/", "party_node/"),
    "typer": ("app/", "party_node/"),
    "torch": (),
    "transformers": ("engine/checkpoint/huggingface_text.py",),
}

BANNED_IMPORTS = {
    "pickle": "a loaded pickle runs code",
    "dill": "a loaded pickle runs code",
    "shelve": "a loaded pickle runs code",
    "marshal": "loads code",
    "random": "predictable; keys come from the operating system, masks from engine/prf",
    "numpy.random": "predictable; keys come from the operating system, masks from engine/prf",
    "multiprocessing": "forks, and pickles what it sends; processes are started as programs",
}

BANNED_NAMES = {  # called, read or passed, wherever they come from
    "eval": "runs text",
    "exec": "runs text",
    "fork": "copies keys and locks of running threads",
    "forkpty": "copies keys and locks of running threads",
    "preexec_fn": "runs Python in a fork",
    "mktemp": "a name that another may take first",
    "CERT_NONE": "accepts any certificate",
    "CERT_OPTIONAL": "accepts no certificate",
    "check_hostname": "accepts another host's certificate",
    "trust_remote_code": "runs a model's own code",
    "allow_pickle": "a loaded pickle runs code",
    "keylog_filename": "writes session keys to disk",
}

# (file, what is banned, or where it may not be imported): the reason
ALLOWED: dict[tuple[str, str], str] = {
    ("app/window/run.py", "exec"): "the name of Qt's event loop",
}

MAX_LINES = 400
LONG_FILES: dict[str, str] = {}  # a file of more lines: the reason

BANNED_MODULE_NAMES = re.compile(r"(utils?|helpers?|managers?|commons?)(\.py)?")

SAME_NAME: dict[tuple[str, tuple[str, ...]], str] = {}  # (a constant, the files that have it): why it is not one

ADDRESSES = {  # the only hosts that an address in any file may name
    "127.0.0.1": "this machine",
    "[::1]": "this machine",
    "localhost": "this machine",
    "www.apache.org": "the licence names it",
    "www.w3.org": "the names of XML vocabularies",
}

ADDRESS = re.compile(r"\b(?:https?|wss?|ftp|git|ssh)://([^\s/:\"'`<>)]+|\[[0-9a-f:]+\])", re.IGNORECASE)

Breach = tuple[int, str, str]  # line, what breaks the rule, reason


@cache
def tracked() -> tuple[str, ...]:
    """Every file that is in the repository or would be added to it."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    names = set(listing.stdout.decode().split("\0")) - {""}
    return tuple(sorted(name for name in names if (ROOT / name).is_file()))


def report(found: list[str]) -> str:
    """One breach a line."""
    return "\n" + "\n".join(found)


def python_files(*folders: str) -> list[str]:
    """The tracked Python files under any of the folders."""
    prefixes = tuple(f"{folder}/" for folder in folders)
    return [name for name in tracked() if name.endswith(".py") and name.startswith(prefixes)]


@cache
def tree(name: str) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse((ROOT / name).read_bytes(), name)


def imports(name: str) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything that a file imports, `from a import b` as `a.b`."""
    package = name.split("/")[:-1]
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            source = [*above, *filter(None, [node.module])]
            yield from ((node.lineno, ".".join([*source, alias.name])) for alias in node.names)


def names_used(name: str) -> Iterator[tuple[int, str]]:
    """(line, dotted or plain name) of every variable, attribute and keyword argument of a file."""
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Name):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute):
            yield node.lineno, node.attr
            if isinstance(node.value, ast.Name):
                yield node.lineno, f"{node.value.id}.{node.attr}"
        elif isinstance(node, ast.keyword) and node.arg:
            yield node.value.lineno, node.arg


def within(imported: str, module: str) -> bool:
    """Whether the imported dotted name is the module or lies in it."""
    return f"{imported}.".startswith(f"{module}.")


def room(name: str) -> str:
    """The room of a file of the engine; "" is the engine's own `__init__`."""
    return name.split("/")[1].removesuffix(".py").replace("__init__", "")


# Each rule yields (line, what breaks it, reason) for one file.


def packages_import_one_way(name: str) -> Iterator[Breach]:
    own = name.split("/")[0]
    for line, imported in imports(name):
        other = imported.split(".")[0]
        if other in PACKAGES and other != own and other not in PACKAGES[own]:
            yield line, imported, f"{own} may not import {other}"


def rooms_import_what_the_table_allows(name: str) -> Iterator[Breach]:
    if not name.startswith("engine/"):
        return
    own = room(name)
    allowed = ROOMS.get(own, set()) | {own, "errors"}
    for line, imported in imports(name):
        package, *rest = imported.split(".")
        if package == "engine" and (not rest or rest[0] not in allowed):
            yield line, imported, f"{own or 'engine'} may import {sorted(allowed)}"


def libraries_stay_in_their_places(name: str) -> Iterator[Breach]:
    for line, imported in imports(name):
        for library, places in ONLY_IN.items():
            if within(imported, library) and not name.startswith(places):
                yield line, library, f"only in {' and '.join(places) or 'scripts run by hand'}"


def nothing_banned_is_imported(name: str) -> Iterator[Breach]:
    for line, imported in imports(name):
        for module, reason in BANNED_IMPORTS.items():
            if within(imported, module):
                yield line, module, reason
    for line, used in names_used(name):
        if used in {"np.random", "numpy.random"}:
            yield line, "numpy.random", BANNED_IMPORTS["numpy.random"]


def nothing_banned_is_used(name: str) -> Iterator[Breach]:
    for line, used in names_used(name):
        if used in BANNED_NAMES:
            yield line, used, BANNED_NAMES[used]


def no_check_is_an_assert_statement(name: str) -> Iterator[Breach]:
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Assert):
            yield node.lineno, "assert", "gone under `python -O`: raise an error"


RULES = (
    packages_import_one_way,
    rooms_import_what_the_table_allows,
    libraries_stay_in_their_places,
    nothing_banned_is_imported,
    nothing_banned_is_used,
    no_check_is_an_assert_statement,
)


@pytest.mark.parametrize("rule", RULES)
def test_the_packages_keep_the_rule(rule: Callable[[str], Iterator[Breach]]) -> None:
    found = [
        f"{name}:{line}: {subject}: {reason}"
        for name in python_files(*PACKAGES)
        for line, subject, reason in rule(name)
        if (name, subject) not in ALLOWED
    ]
    assert not found, report(found)


def test_each_allowance_is_needed() -> None:
    needed = {(name, subject) for rule in RULES for name in python_files(*PACKAGES) for _, subject, _ in rule(name)}
    assert not set(ALLOWED) - needed


def test_every_room_is_in_the_table() -> None:
    unknown = {room(name) for name in python_files("engine")} - {*ROOMS, ""}
    assert not unknown


def test_the_table_of_rooms_has_no_circle() -> None:
    built: set[str] = set()
    while ready := {own for own, others in ROOMS.items() if own not in built and others <= built}:
        built |= ready
    assert built == set(ROOMS)


def test_files_are_short() -> None:
    lengths = {name: len((ROOT / name).read_text().splitlines()) for name in tracked() if name.endswith(".py")}
    long = {name for name, length in lengths.items() if length > MAX_LINES}
    assert long == set(LONG_FILES), "over the limit without a reason, or a reason without need"


def test_names_of_modules_say_something() -> None:
    vague = [name for name in tracked() if any(BANNED_MODULE_NAMES.fullmatch(part) for part in name.split("/"))]
    assert not vague


def classes(name: str) -> Iterator[tuple[int, str]]:
    """(line, name without leading underscores) of every class of a file, at any depth."""
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.ClassDef):
            yield node.lineno, node.name.lstrip("_")


def constants(name: str) -> Iterator[tuple[int, str, str]]:
    """(line, name, value as written) of every constant at a file's top level."""
    for node in tree(name).body:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        for target in targets:
            if isinstance(target, ast.Name) and target.id.lstrip("_").isupper() and len(target.id.lstrip("_")) > 1:
                value = node.value if isinstance(node, (ast.Assign, ast.AnnAssign)) else None
                yield node.lineno, target.id, ast.unparse(value) if value else ""


def test_no_class_name_stands_twice() -> None:
    found: dict[str, list[str]] = {}
    for name in python_files(*PACKAGES):
        for line, title in classes(name):
            found.setdefault(title, []).append(f"{name}:{line}")
    twice = [f"{title}: {places}" for title, places in found.items() if len(places) > 1]
    assert not twice, report(twice)


def test_no_constant_stands_twice_in_a_package() -> None:
    """A public name means one thing in a package; and no value has one name in two files of it, private or not."""
    by_name: dict[tuple[str, str], set[str]] = {}
    by_value: dict[tuple[str, str, str], set[str]] = {}
    for name in python_files(*PACKAGES):
        package = name.split("/")[0]
        for _, title, value in constants(name):
            by_value.setdefault((package, title.lstrip("_"), value), set()).add(name)
            if not title.startswith("_"):
                by_name.setdefault((package, title), set()).add(name)
    twice = {(title, places) for (_, title, *_), files in (by_name | by_value).items() if (places := tuple(sorted(files)))[1:]}
    unknown = [f"{title}: {places}" for title, places in twice if (title.lstrip("_"), places) not in SAME_NAME]
    assert not unknown, report(unknown)
    assert not SAME_NAME.keys() - {(title.lstrip("_"), places) for title, places in twice}


def text(name: str) -> str:
    """The text of a file; "" if it holds none."""
    try:
        return (ROOT / name).read_text()
    except UnicodeDecodeError:
        return ""


@pytest.mark.parametrize("name", [name for name in tracked() if name.startswith("requirements")])
def test_locks_are_hashed_and_name_no_address(name: str) -> None:
    lines = [line for line in text(name).splitlines() if not line.lstrip().startswith("#")]
    logical = " ".join(lines).replace("\\", " ")
    entries = re.split(r"\s+(?=[a-z0-9][a-z0-9._-]*==)", logical.strip())
    unhashed = [entry for entry in entries if "--hash=sha256:" not in entry]
    assert entries
    assert not unhashed
    assert "://" not in text(name)
    assert not re.search(r"--(?:extra-)?index-url|--find-links|--trusted-host|@ ", logical)


def test_addresses_name_no_one_else() -> None:
    found = [
        f"{name}: {match.group()}"
        for name in tracked()
        for match in ADDRESS.finditer(text(name))
        if match.group(1).lower() not in ADDRESSES
    ]
    assert not found, report(found)


WALK = "engine/models/walk.py"
FAMILIES = {"engine/models/llama.py": {"sections", "score_windows"}}  # a model's program, and what others may ask of it


def parts_of_a_model_are_its_own(name: str) -> Iterator[Breach]:
    used = [*imports(name), *names_used(name)]
    for family, open_to_all in FAMILIES.items():
        module = family.removesuffix(".py").replace("/", ".")
        for line, dotted in used if name != family else ():
            for known_as in (module, module.rpartition(".")[2]):
                if (part := dotted.removeprefix(f"{known_as}.")) != dotted and part not in open_to_all:
                    yield line, dotted, f"only {sorted(open_to_all)} are for others: take a section of `sections`"


def sections_are_run_by_the_one_walk(name: str) -> Iterator[Breach]:
    """A loop or a lambda calls what it goes over, or takes out of a sequence, as a section is called: with (reader, x).

    A constant table of functions is no model.
    """
    for loop in ast.walk(tree(name)):
        if isinstance(loop, ast.For):
            targets: list[ast.AST] = [loop.target]
        elif isinstance(loop, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            targets = [part.target for part in loop.generators]
        elif isinstance(loop, ast.While | ast.Lambda):
            targets = list(loop.args.args) if isinstance(loop, ast.Lambda) else []
        else:
            continue
        gone_over = {getattr(node, "id", getattr(node, "arg", "")) for target in targets for node in ast.walk(target)}
        for call in ast.walk(loop):
            if isinstance(call, ast.Call) and len(call.args) == 2:
                over = isinstance(call.func, ast.Name) and call.func.id in gone_over
                table = isinstance(call.func, ast.Subscript) and ast.unparse(call.func.value).isupper()
                if over or (isinstance(call.func, ast.Subscript) and not table):
                    yield call.lineno, ast.unparse(call), f"sections are walked in {WALK} alone"


@pytest.mark.parametrize("rule", [parts_of_a_model_are_its_own, sections_are_run_by_the_one_walk])
def test_there_is_one_walk_over_a_models_sections(rule: Callable[[str], Iterator[Breach]]) -> None:
    found = {
        name: report([f"{name}:{line}: {subject}: {reason}" for line, subject, reason in breaches])
        for name in python_files(*PACKAGES, "benchmarks", "scripts", "tests")
        if (breaches := list(rule(name)))
    }
    expected = {WALK} if rule is sections_are_run_by_the_one_walk else set()
    assert found.keys() == expected, "".join(text for name, text in found.items() if name not in expected)
