"""No path through the store layer reads an engine without a tenant's filter: proved from the source.

Every call that reads an engine must carry a value that flows from `confined(...)`, which puts the scope's condition into
every filter; inside the engine's process, from the filter that came over the pipe. Calls are classified by name, and a
name nobody classified is a violation: a new way to read cannot slip in.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BASE = ROOT / "knowledge_base"
PACKAGES = ("knowledge_base", "rag_service", "indexer", "api", "eval")

FLAGS = {"WITHDRAWN", "tenant"}
"""What may be read of a point without a filter, to keep a withdrawal or to find out whose a point is."""


@dataclass(frozen=True)
class Rules:
    """How a module reads its engine.

    `engine` is the attribute of self that holds it; `reads` must be filtered, `others` read no record; `operators` are
    the functions that may go without: they tell names and numbers, no record. `safe` says whether an expression is a
    filter by itself.
    """

    engine: str
    reads: frozenset[str]
    others: frozenset[str]
    operators: frozenset[str]
    safe: Callable[[ast.AST], bool]


def calls(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name


def is_confined(node: ast.AST) -> bool:
    return calls(node, "confined")


def is_confined_or_names_tenants(node: ast.AST) -> bool:
    """Also a request that names the scope's tenants, for points by id."""
    if isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and key.value == "tenants":
                return "scope.condition()" in ast.unparse(value)
    return is_confined(node)


def is_filter_from_the_pipe(node: ast.AST) -> bool:
    return isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and node.slice.value == "filter"


SERVER = Rules(
    engine="_client",
    reads=frozenset({"query_batch_points", "scroll", "count", "facet", "retrieve"}),
    others=frozenset(
        "upsert set_payload delete close create_payload_index create_shard_key delete_collection get_collection"
        " get_collections collection_exists".split()
    ),
    operators=frozenset({"tenants", "health", "_points"}),
    safe=is_confined,
)
EDGE = Rules(
    engine="",
    reads=frozenset({"get", "ranked", "scroll", "count", "facet"}),
    others=frozenset(
        "open layout load swap drop upsert set_withdrawn delete optimize optimized health".split(),
    ),
    operators=frozenset({"tenants"}),
    safe=is_confined_or_names_tenants,
)
SHARD = Rules(
    engine="_shard",
    reads=frozenset({"query", "query_batch", "scroll", "count", "facet", "retrieve"}),
    others=frozenset({"update", "flush", "close", "optimize", "info"}),
    operators=frozenset({"_corpus"}),
    safe=is_filter_from_the_pipe,
)


@dataclass
class Function:
    """A function of a module: its node, and the names in it that hold a filtered value."""

    node: ast.FunctionDef
    safe: set[str] = field(default_factory=set)
    returns_safe: bool = False

    @property
    def parameters(self) -> list[str]:
        """Names of the parameters but self, in order."""
        arguments = self.node.args
        names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
        return [n for n in names if n not in {"self", "cls"}]


class Flow:
    """Which values of a module carry a filter, followed through names, parameters and returns until nothing changes."""

    def __init__(self, source: str, rules: Rules) -> None:
        self.rules = rules
        tree = ast.parse(source)
        methods = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
        nested = {inner for m in methods for inner in ast.walk(m) if isinstance(inner, ast.FunctionDef) and inner != m}
        self.functions = {m.name: Function(m) for m in methods if m not in nested}
        while self._step():
            pass

    def is_safe(self, node: ast.AST, function: Function) -> bool:
        """Whether any part of the expression carries a filter."""
        return any(self._is_safe(part, function) for part in ast.walk(node))

    def _is_safe(self, part: ast.AST, function: Function) -> bool:
        if self.rules.safe(part):
            return True
        if isinstance(part, ast.Name):
            return part.id in function.safe
        if isinstance(part, ast.Call) and (called := self.functions.get(called_name(part))):
            return called.returns_safe
        return False

    def _step(self) -> bool:
        before = [(len(f.safe), f.returns_safe) for f in self.functions.values()]
        for function in self.functions.values():
            for node in ast.walk(function.node):
                self._assigned(node, function)
            returned = [n.value for n in ast.walk(function.node) if isinstance(n, ast.Return) and n.value]
            function.returns_safe = bool(returned) and all(self.is_safe(r, function) for r in returned)
            function.safe |= {p for p in function.parameters if self._always_safe(function, p)}
        return before != [(len(f.safe), f.returns_safe) for f in self.functions.values()]

    def _assigned(self, node: ast.AST, function: Function) -> None:
        if isinstance(node, ast.Assign) and self.is_safe(node.value, function):
            function.safe |= {n.id for t in node.targets for n in ast.walk(t) if isinstance(n, ast.Name)}
        if isinstance(node, ast.comprehension) and self.is_safe(node.iter, function):
            function.safe |= {n.id for n in ast.walk(node.target) if isinstance(n, ast.Name)}

    def _always_safe(self, function: Function, parameter: str) -> bool:
        """Whether every call of a private function gives the parameter a filtered value; operators' calls aside."""
        if not function.node.name.startswith("_"):
            return False
        given = [
            (caller, argument)
            for caller in self.functions.values()
            if caller.node.name not in self.rules.operators
            for call in ast.walk(caller.node)
            if isinstance(call, ast.Call) and called_name(call) == function.node.name
            for argument in [given_for(call, parameter, function.parameters)]
        ]
        return bool(given) and all(a is not None and self.is_safe(a, caller) for caller, a in given)


def called_name(call: ast.Call) -> str:
    if isinstance(call.func, ast.Attribute):
        return call.func.attr if isinstance(call.func.value, ast.Name) and call.func.value.id == "self" else ""
    return call.func.id if isinstance(call.func, ast.Name) else ""


def given_for(call: ast.Call, parameter: str, parameters: list[str]) -> ast.AST | None:
    for keyword in call.keywords:
        if keyword.arg == parameter:
            return keyword.value
    for starred in call.args:
        if isinstance(starred, ast.Starred):
            return starred.value
    place = parameters.index(parameter)
    return call.args[place] if place < len(call.args) else None


def engine_uses(function: ast.FunctionDef, engine: str) -> Iterator[tuple[str, ast.AST]]:
    """Each use of the engine in a function: the operation's name, and the call that carries its arguments."""
    parents = {child: parent for parent in ast.walk(function) for child in ast.iter_child_nodes(parent)}
    for node in ast.walk(function):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == f"self.{engine}":
            yield node.attr, parents[node]


def requests(function: ast.FunctionDef) -> Iterator[tuple[str, ast.AST]]:
    """Each request over the pipe in a function: the operation's name ("" for a variable), and the call that sends it."""
    sent = [n for n in ast.walk(function) if isinstance(n, ast.Call) and called_name(n) in {"_read", "_call"}]
    named = {
        target.id: node.value
        for node in ast.walk(function)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for call in sent:
        whole = [
            call.args[0],
            *(named[n.id] for n in ast.walk(call.args[0]) if isinstance(n, ast.Name) and n.id in named),
        ]
        for part in (p for w in whole for p in ast.walk(w) if isinstance(p, ast.Dict)):
            for key, value in zip(part.keys, part.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "op":
                    yield (str(value.value) if isinstance(value, ast.Constant) else ""), call


def reads_flags_only(call: ast.AST) -> bool:
    """Whether a retrieval gives nothing of a point but the flags that any writer must know."""
    given = {k.arg: k.value for k in call.keywords} if isinstance(call, ast.Call) else {}
    payload, vectors = given.get("with_payload"), given.get("with_vector")
    if not isinstance(payload, ast.List):
        return False
    names = {
        e.id if isinstance(e, ast.Name) else e.value for e in payload.elts if isinstance(e, (ast.Name, ast.Constant))
    }
    return names <= FLAGS and (vectors is None or (isinstance(vectors, ast.Constant) and vectors.value is False))


def compares_tenants(function: ast.FunctionDef) -> bool:
    """Whether points fetched by id are kept only where their tenant is among those of the request."""
    kept = [n for n in ast.walk(function) if isinstance(n, ast.comprehension) and n.ifs]
    return any("get('tenant') in tenants" in ast.unparse(test) for comprehension in kept for test in comprehension.ifs)


def violations(source: str, rules: Rules) -> list[str]:
    """Engine calls of a module that read without a filter, as "function: operation"."""
    flow, found = Flow(source, rules), []
    for name, function in flow.functions.items():
        uses = engine_uses(function.node, rules.engine) if rules.engine else requests(function.node)
        for operation, call in uses:
            if operation in rules.others or name in rules.operators or (name == "_change" and not operation):
                continue
            filtered = flow.is_safe(call, function) or (operation == "retrieve" and reads_flags_only(call))
            if name == "get" and operation == "retrieve":
                filtered = compares_tenants(function.node)
            if operation not in rules.reads or not filtered:
                found.append(f"{name}: {operation or 'unknown'}")
    return found


def memory_violations(source: str) -> list[str]:
    """Functions of the store in memory that look at points other than through `_within` or `_owned`."""
    keepers = {"_within", "_owned", "upsert", "set_withdrawn", "delete", "tenants", "health"}
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            looks = any(isinstance(n, ast.Attribute) and n.attr == "points" for n in ast.walk(node))
            confines = any(is_confined(n) for n in ast.walk(node))
            if (looks and node.name not in keepers) or (node.name == "_within" and not confines):
                found.append(node.name)
    return found


def source_of(name: str) -> str:
    return (BASE / name).read_text("utf-8")


MODULES = [("server.py", SERVER), ("edge.py", EDGE), ("edge_shard.py", SHARD)]


@pytest.mark.parametrize(("name", "rules"), MODULES, ids=[m[0] for m in MODULES])
def test_every_read_of_an_engine_carries_a_tenants_filter(name: str, rules: Rules) -> None:
    assert violations(source_of(name), rules) == []


def test_the_store_in_memory_looks_at_points_within_a_scope_only() -> None:
    assert memory_violations(source_of("memory.py")) == []


def occurrences(source: str, text: str) -> list[str]:
    """The source with each occurrence of `text(` in turn made to let everything through."""
    open_door = "(lambda *everything: everything[-1])("
    starts = [i for i in range(len(source)) if source.startswith(f"{text}(", i) and not source[i - 1].isidentifier()]
    return [source[:i] + open_door + source[i + len(text) + 1 :] for i in starts]


@pytest.mark.parametrize(("name", "rules", "count"), [("server.py", SERVER, 4), ("edge.py", EDGE, 5)])
def test_leaving_out_any_one_filter_is_found(name: str, rules: Rules, count: int) -> None:
    mutants = occurrences(source_of(name), "confined")
    assert len(mutants) == count
    assert all(violations(mutant, rules) for mutant in mutants)


END = "    def close(self)"


def peek(what: str) -> str:
    """A new method before the last one."""
    return f"    def peek(self):\n        return self.{what}\n\n{END}"


MUTATIONS = [
    ("server.py", SERVER, END, peek("_client.retrieve('cases', [1])")),
    ("server.py", SERVER, END, peek("_client.query_points('cases')")),
    ("server.py", SERVER, "with_payload=[WITHDRAWN]", "with_payload=True"),
    ("edge.py", EDGE, '| {"tenants": list(scope.condition().values)}', ""),
    ("edge.py", EDGE, '"op": "count"', '"op": "peek"'),
    ("edge.py", EDGE, END, peek("_read({'op': 'scroll'})")),
    ("edge_shard.py", SHARD, 'filter=make_filter(request["filter"])', "filter=None"),
    ("edge_shard.py", SHARD, 'make_filter(spec["filter"])', "None"),
    (
        "edge_shard.py",
        SHARD,
        'wanted = make_filter(request["filter"])\n        return',
        "wanted = None\n        return",
    ),
    ("edge_shard.py", SHARD, ' if (r.payload or {}).get("tenant") in tenants', ""),
    ("edge_shard.py", SHARD, 'with_payload=["tenant"]', "with_payload=True"),
    ("edge_shard.py", SHARD, END, peek("_shard.search_all()")),
]


@pytest.mark.parametrize(("name", "rules", "old", "new"), MUTATIONS)
def test_any_other_way_round_the_filter_is_found(name: str, rules: Rules, old: str, new: str) -> None:
    source = source_of(name)
    assert old in source
    assert violations(source.replace(old, new, 1), rules)


def test_a_new_look_at_all_points_in_memory_is_found() -> None:
    source = source_of("memory.py")
    assert memory_violations(source.replace(END, peek("_collections['cases'].points"), 1)) == ["peek"]
    (mutant,) = occurrences(source, "confined")
    assert memory_violations(mutant) == ["_within"]


ENGINES = {"qdrant_client", "qdrant_edge"}
MAY_NAME_AN_ENGINE = {
    "knowledge_base/server.py",
    "knowledge_base/server_layout.py",
    "knowledge_base/server_wire.py",
    "knowledge_base/edge_layout.py",
    "knowledge_base/edge_optimizer.py",  # moves records from one shard to the next; answers nobody
    "knowledge_base/edge_shard.py",
}
MEASURES_ENGINES = "eval/store_speed/"
"""Bare engines over invented vectors, as a yardstick; no knowledge base is opened with them."""


def engine_imports() -> Iterator[str]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                if any(n.split(".")[0] in ENGINES for n in names):
                    yield path.relative_to(ROOT).as_posix()


def test_nothing_outside_the_store_layer_speaks_to_an_engine() -> None:
    named = {name for name in engine_imports() if not name.startswith(MEASURES_ENGINES)}
    assert named == MAY_NAME_AN_ENGINE
