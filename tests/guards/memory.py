"""Takes a guard out of a process that has loaded everything already, without loading it anew.

Only what the removal changes is replaced: the code of a function or method, where everybody who
holds the function sees it, or the value of a constant, in its module and in those that import it.
"""

import ast
import importlib
import inspect
import sys
import types
from collections.abc import Iterator
from functools import cached_property
from typing import Any

OURS = ("app", "chalicelib", "infra", "tests")


class NotInMemoryError(Exception):
    """The removal changes what cannot be replaced in memory: a new process must load it."""


def module_name(file: str) -> str:
    """The module that is in a file of the tree."""
    return file.removesuffix(".py").replace("/", ".").removesuffix(".__init__")


def replace(file: str, before: str, after: str) -> None:
    """Makes the loaded module of a file what ``after`` says, where it differs from ``before``."""
    module = importlib.import_module(module_name(file))
    whole = compile(after, str(module.__file__), "exec")
    for old, new in _changed(ast.parse(before).body, ast.parse(after).body):
        match new:
            case ast.FunctionDef():
                swap(vars(module)[new.name], whole, new.name)
            case ast.ClassDef():
                _replace_in_class(vars(module)[new.name], old, new, whole)
            case ast.Assign() | ast.AnnAssign():
                _assign(module, new)
            case _:
                raise NotInMemoryError(ast.unparse(new)[:80])
    forget()


def _changed(before: list[ast.stmt], after: list[ast.stmt]) -> Iterator[tuple[ast.stmt, ast.stmt]]:
    if len(before) != len(after):
        raise NotInMemoryError("a statement is gone")
    for old, new in zip(before, after, strict=True):
        if ast.dump(old) != ast.dump(new):
            if type(old) is not type(new):
                raise NotInMemoryError("a statement is of another kind")
            yield old, new


def _replace_in_class(cls: type, old: ast.stmt, new: ast.ClassDef, whole: types.CodeType) -> None:
    assert isinstance(old, ast.ClassDef)
    for _, member in _changed(old.body, new.body):
        if not isinstance(member, ast.FunctionDef):
            raise NotInMemoryError(f"{new.name} has another body")
        swap(inspect.getattr_static(cls, member.name), whole, f"{new.name}.{member.name}")


def swap(found: Any, whole: types.CodeType, qualified: str) -> None:
    """Puts the code that a function has in a compiled module into the living function."""
    if isinstance(found, property):
        found = found.fget
    elif isinstance(found, cached_property):
        found = found.func
    elif isinstance(found, (classmethod, staticmethod)):
        found = found.__func__
    function = inspect.unwrap(found)
    function.__code__ = _code(whole, qualified)


def _code(code: types.CodeType, qualified: str) -> types.CodeType:
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            if constant.co_qualname == qualified:
                return constant
            if qualified.startswith(f"{constant.co_qualname}."):
                return _code(constant, qualified)
    raise NotInMemoryError(qualified)


def _assign(module: types.ModuleType, statement: ast.Assign | ast.AnnAssign) -> None:
    target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
    name = ast.unparse(target)
    text = ast.Module([statement], [])
    exec(compile(text, str(module.__file__), "exec"), vars(module))  # noqa: S102 - it is ours
    for importer in list(sys.modules.values()):
        own = getattr(importer, "__name__", "")
        if own.partition(".")[0] in OURS and importer is not module:
            for imported_as in _imports(importer, module.__name__, name):
                setattr(importer, imported_as, vars(module)[name])


def _imports(importer: types.ModuleType, source: str, name: str) -> Iterator[str]:
    """Under which names a module imports a constant of another one."""
    try:
        tree = ast.parse(inspect.getsource(importer))
    except (OSError, TypeError):
        return
    package = importer.__name__.split(".")
    if not hasattr(importer, "__path__"):
        package = package[:-1]
    for statement in tree.body:
        if isinstance(statement, ast.ImportFrom):
            above = package[: len(package) - statement.level + 1] if statement.level else []
            if ".".join([*above, *(statement.module or "").split(".")]).strip(".") == source:
                for alias in statement.names:
                    if alias.name == name:
                        yield alias.asname or name


def forget() -> None:
    """What was worked out before the removal must be worked out again."""
    for loaded in list(sys.modules.values()):
        if getattr(loaded, "__name__", "").startswith("chalicelib."):
            for value in list(vars(loaded).values()):
                if hasattr(value, "cache_clear"):
                    value.cache_clear()
