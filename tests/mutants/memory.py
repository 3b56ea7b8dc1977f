"""Puts a mistake into a process that has loaded everything already, without loading it anew.

Only what the mistake changes is replaced: the code of a function, where everybody who holds the
function sees it, or the value of a constant, in its module and in those that import it.
"""

import ast
import importlib
import inspect
import sys
import types
from collections.abc import Iterator
from functools import cached_property
from typing import Any


class NotInMemoryError(Exception):
    """The mistake changes what cannot be replaced in memory: a new process must load it."""


def module_name(file: str) -> str:
    """The module that is in a file of the tree."""
    return file.removesuffix(".py").replace("/", ".").removesuffix(".__init__")


def swap(file: str, text: str, function: str) -> None:
    """Makes a loaded function do what it does in the text of its file."""
    module = importlib.import_module(module_name(file))
    found: Any = module
    for name in function.split("."):
        found = inspect.getattr_static(found, name)
    if isinstance(found, property):
        found = found.fget
    elif isinstance(found, cached_property):
        found = found.func
    elif isinstance(found, (classmethod, staticmethod)):
        found = found.__func__
    try:
        inspect.unwrap(found).__code__ = _code(
            compile(text, str(module.__file__), "exec"), function
        )
    except (AttributeError, ValueError) as error:  # no function, or one with other free variables
        raise NotInMemoryError(function) from error
    forget()


def assign(file: str, text: str, name: str) -> None:
    """Gives a constant, and those of its module that are made of it, their values in the text."""
    module = importlib.import_module(module_name(file))
    changed: set[str] = set()
    for statement in ast.parse(text).body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=own)]) | ast.AnnAssign(target=ast.Name(id=own)):
                if own == name or not changed.isdisjoint(_mentioned(statement)):
                    _assign(module, statement, own)
                    changed.add(own)
    if not changed:
        raise NotInMemoryError(name)
    forget()


def _mentioned(statement: ast.stmt) -> set[str]:
    return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}


def _assign(module: types.ModuleType, statement: ast.stmt, name: str) -> None:
    before = vars(module).get(name)
    code = compile(ast.Module([statement], []), str(module.__file__), "exec")
    exec(code, vars(module))  # noqa: S102 - it is ours
    for importer in _ours("app", "chalicelib", "infra", "tests"):
        if importer is not module and vars(importer).get(name, module) is before:
            setattr(importer, name, vars(module)[name])


def _code(code: types.CodeType, qualified: str) -> types.CodeType:
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            if constant.co_qualname == qualified:
                return constant
            if qualified.startswith(f"{constant.co_qualname}."):
                return _code(constant, qualified)
    raise NotInMemoryError(qualified)


def _ours(*packages: str) -> Iterator[types.ModuleType]:
    for loaded in list(sys.modules.values()):
        if getattr(loaded, "__name__", "").partition(".")[0] in packages:
            yield loaded


def forget() -> None:
    """What was worked out before must be worked out again."""
    for loaded in _ours("chalicelib", "infra"):
        for value in list(vars(loaded).values()):
            if hasattr(value, "cache_clear"):
                value.cache_clear()
