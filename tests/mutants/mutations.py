"""All the small mistakes that could be made in a file of Python: one `Mutant` for each.

A mutant is the text of the file with one expression or statement changed: a bound moved or
dropped, a comparison turned round, an argument or a condition forgotten, a statement left out, a
refusal that is never raised, a caller who is not asked, a word misspelt, two steps in the other
order.
"""

import ast
import copy
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

PRODUCT = "chalicelib"
Part = TypeVar("Part")

_MOVED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
}

_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}

_ASKS_WHOSE = re.compile(r"\w+_credits_of")
"""What of a caller's rights says whose credits they may see or use."""

_TYPES_ONLY = {"TypeVar", "cast"}
"""What is called for the type checker alone."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One mistake. ``function`` is empty for one in the body of a module or of a class.

    ``first_line`` to ``last_line`` are those that a test must run to notice it; ``names`` is, for
    one in a body, what is defined there: a test must run a line that mentions it. ``occurrence``
    counts those that look the same.
    """

    file: str
    function: str
    first_line: int
    last_line: int
    before: str
    after: str
    lines: tuple[str, ...] = field(repr=False, compare=False)
    replaced: tuple[int, int]
    changed: str
    names: tuple[str, ...] = ()
    occurrence: int = 0

    @property
    def key(self) -> tuple[str, str, str]:
        """What it is, whatever file its function has moved to."""
        return self.function, self.before, self.after

    @property
    def place(self) -> tuple[str, ...]:
        """The function it is in, or what is defined there: mutants of one place are alike."""
        return self.file, self.function, *self.names

    @property
    def text(self) -> str:
        """The whole file, with the mistake."""
        first, last = self.replaced
        return "\n".join([*self.lines[:first], self.changed, *self.lines[last:]])


def mutants_of(root: Path, files: Iterable[str]) -> list[Mutant]:
    """Every mutant of some files."""
    seen: Counter[tuple[str, str, str]] = Counter()
    found = []
    for file in files:
        text = (root / file).read_text(encoding="utf-8")
        for mutant in _Mutations(file, text, enums_of(root)).all():
            found.append(replace(mutant, occurrence=seen[mutant.key]))
            seen[mutant.key] += 1
    return found


@cache
def enums_of(root: Path) -> Mapping[str, list[str]]:
    """The members of each enumeration of the product, by its name."""
    members: dict[str, list[str]] = defaultdict(list)
    for path in sorted((root / PRODUCT).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and any(
                ast.unparse(base).endswith("Enum") for base in node.bases
            ):
                members[node.name] += [
                    target.id
                    for statement in node.body
                    if isinstance(statement, ast.Assign)
                    for target in statement.targets
                    if isinstance(target, ast.Name)
                ]
    return members


class _Mutations:
    def __init__(self, file: str, text: str, enums: Mapping[str, list[str]]) -> None:
        self._file = file
        self._text = text
        self._enums = enums
        self._lines = tuple(text.split("\n"))
        # ast counts bytes, and what is cut out of here are characters.
        self._encoded = [line.encode() for line in self._lines]
        self._names: tuple[str, ...] = ()

    def all(self) -> Iterator[Mutant]:
        yield from self._of_body(ast.parse(self._text).body, "", is_function=False)

    def _of_body(self, body: list[ast.stmt], name: str, *, is_function: bool) -> Iterator[Mutant]:
        for statement in body:
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                continue  # a docstring
            if not is_function:
                self._names = defined_by(statement, name)
            yield from self._of_statement(statement, name, is_function=is_function)
        if is_function:
            yield from self._of_order(body, name)

    def _of_order(self, body: list[ast.stmt], inside: str) -> Iterator[Mutant]:
        """Two steps that return nothing to each other, in the other order."""
        for one, other in pairwise(body):
            if _is_step(one) and _is_step(other):
                first, middle, last = one.lineno - 1, _end(one), _end(other)
                swapped = [*self._lines[middle:last], *self._lines[first:middle]]
                yield self._replaced(first, last, "\n".join(swapped), (one.lineno, last), inside)

    def _of_statement(  # noqa: C901, PLR0912 - a case for each kind of statement
        self, statement: ast.stmt, name: str, *, is_function: bool
    ) -> Iterator[Mutant]:
        inside = name if is_function else ""
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            return
        if not inside and _is_type_alias(statement):
            return
        if isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING":
            return
        if isinstance(statement, ast.ClassDef):
            # Its decorators say how a dataclass is made (frozen, slots): what would break that is
            # refused by the type checker, and no behaviour follows from it.
            qualified = f"{name}.{statement.name}" if name else statement.name
            header = self._lines[statement.lineno - 1]
            if len(statement.bases) > 1 and header.endswith("):"):
                line = statement.lineno
                for bases in _with_one_less([ast.unparse(base) for base in statement.bases]):
                    without = f"{header.partition('(')[0]}({', '.join(bases)}):"
                    yield self._replaced(line - 1, line, without, (line, line), inside)
            yield from self._of_body(statement.body, qualified, is_function=is_function)
            return
        if isinstance(statement, ast.FunctionDef):
            # What is evaluated when the function is defined: decorators and defaults.
            for expression in (
                *statement.decorator_list,
                *statement.args.defaults,
                *(default for default in statement.args.kw_defaults if default),
            ):
                yield from self._of_expression(expression, expression, inside)
            own = name if is_function else f"{name}.{statement.name}" if name else statement.name
            yield from self._of_body(statement.body, own, is_function=True)
            return
        yield from self._of_simple(statement, inside)
        for child in ast.iter_child_nodes(statement):
            if isinstance(child, ast.expr):
                if not (isinstance(statement, ast.AnnAssign) and child is statement.annotation):
                    is_asked = _asks(statement, child)
                    yield from self._of_expression(child, statement, inside, is_asked=is_asked)
            elif isinstance(child, ast.stmt):
                continue
            elif isinstance(child, ast.withitem):
                yield from self._of_expression(child.context_expr, statement, inside)
            elif isinstance(child, ast.ExceptHandler):
                if child.type:
                    yield self._mutant(child.type, child, "()", inside)  # catches nothing
                    yield from self._of_expression(child.type, child, inside)
                yield from self._of_body(child.body, name, is_function=is_function)
            elif isinstance(child, ast.match_case):
                if child.guard:
                    yield from self._of_expression(child.guard, child.guard, inside)
                yield from self._of_body(child.body, name, is_function=is_function)
        for block in ("body", "orelse", "finalbody"):
            inner = getattr(statement, block, [])
            if inner and isinstance(inner[0], ast.stmt):
                yield from self._of_body(inner, name, is_function=is_function)

    def _of_simple(  # noqa: C901 - a case for each kind of statement
        self, statement: ast.stmt, inside: str
    ) -> Iterator[Mutant]:
        """The statement left out, or its value."""
        made: list[str] = []
        match statement:
            case ast.Expr() | ast.Raise() | ast.Continue() | ast.Break() if inside:
                made = ["pass"]
            case ast.Return(value=None):
                made = ["pass"]
            case ast.Return(value=value) if value and not _is_as_good_as_none(value):
                made = ["return None"]
            case ast.If(test=test, body=body):
                yield self._mutant(test, statement, "True", inside)
                if not isinstance(body[0], ast.Raise):  # which is left out by itself
                    yield self._mutant(test, statement, "False", inside)
            case ast.With(items=[ast.withitem(context_expr=entered, optional_vars=None)]):
                yield self._mutant(
                    entered, statement, "__import__('contextlib').nullcontext()", inside
                )
            case ast.Assign(value=value) | ast.AnnAssign(value=ast.expr() as value) if inside:
                if not _is_none(value):
                    nothing = "[]" if isinstance(value, ast.ListComp) else "None"
                    yield self._mutant(value, statement, nothing, inside)
            case ast.AugAssign(target=target, op=op, value=value):
                operator = _ARITHMETIC.get(type(op))
                if operator:
                    changed = ast.AugAssign(target, operator(), value)
                    made = [ast.unparse(changed)]
                made.append(f"{ast.unparse(target)} = {ast.unparse(value)}")
        for after in made:
            yield self._mutant(statement, statement, after, inside)

    def _of_expression(  # noqa: C901 - a case for each kind of expression
        self, node: ast.expr, around: ast.AST, inside: str, *, is_asked: bool = False
    ) -> Iterator[Mutant]:
        """``is_asked``: whether it is a condition, which is left out as a whole elsewhere."""
        if isinstance(node, ast.Call) and ast.unparse(node.func) in _TYPES_ONLY:
            # Of a cast only the value is more than a type.
            for argument in node.args[1:]:
                yield from self._of_expression(argument, around, inside)
            return
        for after in _changes(node, self._enums):
            yield self._mutant(node, around, ast.unparse(after), inside)
        if not is_asked and _is_condition(node):
            yield self._mutant(node, around, "True", inside)
            if not isinstance(around, ast.Return):  # where None would say the same
                yield self._mutant(node, around, "False", inside)
        if isinstance(node, ast.JoinedStr):
            for part in node.values:
                if isinstance(part, ast.FormattedValue):
                    if _is_key(node):
                        rest = [other for other in node.values if other is not part]
                        yield self._mutant(node, around, ast.unparse(ast.JoinedStr(rest)), inside)
                    # Positions within an f-string are not exact: the whole of it is written anew.
                    for inner in _changes_within(part.value, self._enums):
                        whole = copy.deepcopy(node)
                        place = node.values.index(part)
                        replaced = whole.values[place]
                        assert isinstance(replaced, ast.FormattedValue)
                        replaced.value = inner
                        yield self._mutant(node, around, ast.unparse(whole), inside)
            return
        for child in _expressions_of(node):
            yield from self._of_expression(child, around, inside, is_asked=_asks(node, child))

    def _mutant(self, node: ast.AST, around: ast.AST, after: str, inside: str) -> Mutant:
        first, last = node.lineno - 1, node.end_lineno - 1  # type: ignore[attr-defined]
        before_node = self._encoded[first][: node.col_offset].decode()  # type: ignore[attr-defined]
        after_node = self._encoded[last][node.end_col_offset :].decode()  # type: ignore[attr-defined]
        needs_brackets = isinstance(node, ast.expr) and not isinstance(
            node, (ast.Constant, ast.Name, ast.Call, ast.JoinedStr)
        )
        written = f"({after})" if needs_brackets else after
        end = around.end_lineno  # type: ignore[attr-defined]
        body = getattr(around, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.stmt):
            end = max(around.lineno, body[0].lineno - 1)  # type: ignore[attr-defined]
        run = around.lineno, end  # type: ignore[attr-defined]
        return self._replaced(first, last + 1, before_node + written + after_node, run, inside)

    def _replaced(
        self, first: int, last: int, changed: str, run: tuple[int, int], inside: str
    ) -> Mutant:
        """The mutant that has ``changed`` in the place of the lines up to ``last``, from 0."""
        return Mutant(
            file=self._file,
            function=inside,
            first_line=run[0],
            last_line=run[1],
            before=" ".join(line.strip() for line in self._lines[first:last]),
            after=" ".join(line.strip() for line in changed.split("\n")),
            lines=self._lines,
            replaced=(first, last),
            changed=changed,
            names=() if inside else self._names,
        )


def _end(node: ast.stmt) -> int:
    assert node.end_lineno is not None
    return node.end_lineno


def _is_step(statement: ast.stmt) -> bool:
    """Whether it does something, and hands on nothing."""
    if isinstance(statement, (ast.For, ast.With)):
        return any(_is_step(inner) for inner in statement.body)
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)


def defined_by(statement: ast.stmt, name: str) -> tuple[str, ...]:
    """What a statement of a module or a class defines; ``name`` is that of the class."""
    match statement:
        case ast.Assign(targets=[ast.Name(id=defined)]):
            return (defined,)
        case ast.AnnAssign(target=ast.Name(id=defined)):
            return (defined,)
        case ast.FunctionDef(name=defined) | ast.ClassDef(name=defined):
            return (defined,)
    return (name,) if name else ()


def _is_key(node: ast.JoinedStr) -> bool:
    """Whether it is the name of something, and no sentence."""
    words = [str(part.value) for part in node.values if isinstance(part, ast.Constant)]
    return not any(" " in word for word in words)


def _is_condition(node: ast.expr) -> bool:
    return isinstance(node, (ast.Compare, ast.BoolOp)) or (
        isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)
    )


def _asks(parent: ast.AST, child: ast.expr) -> bool:
    """Whether a child is a condition that its parent is changed without."""
    match parent:
        case ast.If(test=test) | ast.IfExp(test=test):
            return child is test
        case ast.While() | ast.BoolOp():
            return True
        case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
            return any(child in loop.ifs for loop in parent.generators)
        case ast.UnaryOp(op=ast.Not()):
            return True
    return False


def _is_type_alias(statement: ast.stmt) -> bool:
    """Such as ``Batches = tuple["CreditBatch", ...]``."""
    if not isinstance(statement, ast.Assign):
        return False
    value = statement.value
    if isinstance(value, ast.BinOp):
        return isinstance(value.left, ast.Name) and isinstance(value.right, ast.Name)
    return isinstance(value, ast.Subscript) or (
        isinstance(value, ast.Call) and ast.unparse(value.func) in _TYPES_ONLY
    )


def _expressions_of(node: ast.AST) -> Iterator[ast.expr]:
    # A misspelt key of a dictionary says no more than one that is left out.
    named: list[ast.expr | None] = node.keys if isinstance(node, ast.Dict) else []
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            if not (child in named and isinstance(child, ast.Constant)):
                yield child
        elif isinstance(child, ast.keyword):
            yield child.value
        elif isinstance(child, ast.comprehension):
            yield child.iter
            yield from child.ifs


def _changes_within(node: ast.expr, enums: Mapping[str, list[str]]) -> Iterator[ast.expr]:
    """The changes of a node and of all expressions below it, each as a whole new node."""
    yield from _changes(node, enums)
    for child in _expressions_of(node):
        for changed in _changes_within(child, enums):
            yield _with(node, child, changed)


def _with(node: ast.expr, child: ast.expr, changed: ast.expr) -> ast.expr:
    class Replace(ast.NodeTransformer):
        def visit(self, visited: ast.AST) -> ast.AST:
            return changed if visited is marked else super().visit(visited)

    position = list(ast.walk(node)).index(child)
    whole = copy.deepcopy(node)
    marked = list(ast.walk(whole))[position]
    replaced = Replace().visit(whole)
    assert isinstance(replaced, ast.expr)
    return replaced


def _changes(  # noqa: C901, PLR0912 - a case for each kind of expression
    node: ast.expr, enums: Mapping[str, list[str]]
) -> Iterator[ast.expr]:
    """What could stand in the place of one expression."""
    match node:
        case ast.Constant(value=bool() as value):
            yield ast.Constant(not value)
        case ast.Constant(value=int() as value):
            yield ast.Constant(value + 1)
        case ast.Constant(value=float() as value):
            yield ast.Constant(value + 1)
        case ast.Constant(value=str() as value):
            yield ast.Constant(f"XX{value}XX")
        case ast.Constant(value=bytes() as value):
            yield ast.Constant(b"XX" + value)
        case ast.JoinedStr(values=values):
            yield ast.JoinedStr([ast.Constant("XX"), *values, ast.Constant("XX")])
        case ast.Attribute(value=ast.Name(id=enum), attr=member) if member in enums.get(enum, ()):
            yield _member(enum, _after(member, enums[enum]))
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            for place, operator in enumerate(ops):
                if moved := _MOVED.get(type(operator)):
                    yield ast.Compare(left, [*ops[:place], moved(), *ops[place + 1 :]], comparators)
            if len(ops) > 1:  # one of two bounds dropped
                yield ast.Compare(left, ops[:-1], comparators[:-1])
                yield ast.Compare(comparators[0], ops[1:], comparators[1:])
        case ast.BoolOp(op=operator, values=values):
            for rest in _with_one_less(values):  # one of the conditions forgotten
                yield rest[0] if len(rest) == 1 else ast.BoolOp(operator, rest)
        case ast.UnaryOp(op=ast.USub() | ast.Invert(), operand=operand):
            yield operand
        case ast.BinOp(left=left, op=operator, right=right):
            other_sign = _ARITHMETIC.get(type(operator))
            if other_sign:
                yield ast.BinOp(left, other_sign(), right)
        case ast.IfExp(body=body, orelse=orelse):
            yield body
            yield orelse
        case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
            yield from _unfiltered(node)
        case (ast.Tuple() | ast.List()) as row if len(row.elts) > 1:
            for place, element in enumerate(row.elts):
                if not isinstance(element, ast.Constant):  # whose misspelling says the same
                    yield type(row)([*row.elts[:place], *row.elts[place + 1 :]], ast.Load())
        case ast.Dict(keys=keys, values=values):
            for place in range(len(keys)):
                yield ast.Dict(
                    [*keys[:place], *keys[place + 1 :]], [*values[:place], *values[place + 1 :]]
                )
        case ast.Set(elts=elements) if len(elements) > 1:
            yield from (ast.Set(rest) for rest in _with_one_less(elements))
        case ast.Subscript(value=value, slice=ast.Slice(lower=lower, upper=upper, step=step)):
            if lower:
                yield ast.Subscript(value, ast.Slice(None, upper, step))
            if upper:
                yield ast.Subscript(value, ast.Slice(lower, None, step))
        case ast.Call():
            yield from _changes_of_call(node, enums)


def _changes_of_call(  # noqa: C901, PLR0912 - a case for each kind of call
    node: ast.Call, enums: Mapping[str, list[str]]
) -> Iterator[ast.expr]:
    func, args, keywords = node.func, node.args, node.keywords
    match node:
        case ast.Call(func=ast.Name(id=name), args=[ast.expr() as only], keywords=_) if (
            name.islower() and not isinstance(only, ast.Starred)
        ):
            yield only  # as it is, and not what is made of it
            args = []
        case ast.Call(func=ast.Name(id=name), args=[_, value]) if name.startswith("parse_"):
            yield value  # unchecked
        case ast.Call(func=ast.Attribute(value=fields, attr="required")):
            yield ast.Call(ast.Attribute(fields, "optional", ast.Load()), args, keywords)
    for place, argument in enumerate(args):
        if isinstance(argument, ast.Starred) or _is_none(argument):
            continue
        nothing = [*args[:place], ast.Constant(None), *args[place + 1 :]]
        yield ast.Call(func, nothing, keywords)
    for given in _with_one_less(keywords):
        yield ast.Call(func, node.args, given)
    match node:
        case ast.Call(func=ast.Name(id="min" | "max"), args=[_, _, *_]):
            yield from args
        case ast.Call(func=ast.Name(id="suppress")):
            yield ast.Call(func, [ast.Name("Exception")], [])
        case ast.Call(func=ast.Name(id="format_instant"), args=[instant]):
            whole = ast.keyword("microsecond", ast.Constant(0))
            replaced = ast.Call(ast.Attribute(instant, "replace", ast.Load()), [], [whole])
            yield ast.Call(func, [replaced], keywords)
        case ast.Call(
            func=ast.Attribute(value=ast.Name(id="re")), args=[ast.Constant(value=pattern), *rest]
        ) if isinstance(pattern, str):
            for laxer in _laxer(pattern):
                yield ast.Call(func, [ast.Constant(laxer), *rest], keywords)
        case ast.Call(func=ast.Attribute(value=asked, attr=question), args=[user]) if (
            _ASKS_WHOSE.fullmatch(question)
        ):
            own = ast.Attribute(asked, "user_id", ast.Load())
            yield ast.BoolOp(ast.Or(), [user, own])
        case ast.Call(
            func=ast.Attribute(value=ast.Call(func=ast.Attribute(value=asked)), attr=attribute)
        ):
            # What was to happen on the way: a caller who is asked, a clean-up, a conversion.
            yield ast.Call(ast.Attribute(asked, attribute, ast.Load()), args, keywords)
    for enum, members in enums.items():
        named = [
            argument.attr
            for argument in args
            if isinstance(argument, ast.Attribute) and ast.unparse(argument.value) == enum
        ]
        if named and len(named) == len(args) and isinstance(func, ast.Attribute):
            for member in members:  # one more that may
                if member not in named:
                    yield ast.Call(func, [*args, _member(enum, member)], keywords)


def _unfiltered(
    node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp,
) -> Iterator[ast.expr]:
    """With one of its conditions forgotten."""
    for number, loop in enumerate(node.generators):
        for rest in _with_one_less(loop.ifs):
            changed = copy.deepcopy(node)
            changed.generators[number].ifs = rest
            yield changed


_QUANTIFIER = re.compile(r"(?<=[\w\]).])(?:\{(\d+)(?:,(\d+))?\})")
_CLASS = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])+\]")


def _laxer(pattern: str) -> Iterator[str]:
    """A pattern with a length that is one more, or any; or with a class that is any character."""
    for found in _QUANTIFIER.finditer(pattern):
        most = found[2] or found[1]
        more = f"{{{found[1]},{int(most) + 1}}}"
        for other in (more, "+"):
            yield pattern[: found.start()] + other + pattern[found.end() :]
    for found in _CLASS.finditer(pattern):
        yield pattern[: found.start()] + "." + pattern[found.end() :]


def _with_one_less(parts: list[Part]) -> Iterator[list[Part]]:
    for place in range(len(parts)):
        yield parts[:place] + parts[place + 1 :]


def _after(member: str, members: list[str]) -> str:
    return members[(members.index(member) + 1) % len(members)]


def _member(enum: str, name: str) -> ast.Attribute:
    return ast.Attribute(ast.Name(enum, ast.Load()), name, ast.Load())


def _is_as_good_as_none(node: ast.expr) -> bool:
    """Whether it is None, or False: where the answer is yes or no, None says the same."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) in _TYPES_ONLY:
        return _is_as_good_as_none(node.args[-1])
    return isinstance(node, ast.Constant) and (node.value is None or node.value is False)


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None
