"""All the small mistakes that could be made in a file of Python: one `Mutant` for each.

A mutant is the text of the file with one expression or statement changed: a bound moved by one, a
comparison turned round, an argument forgotten, a statement left out, a word misspelt.
"""

import ast
import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
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

_TYPES_ONLY = {"TypeVar", "cast"}
"""What is called for the type checker alone."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One mistake. ``function`` is empty for one in the body of a module or of a class.

    ``occurrence`` counts those that look the same: a line can be in a function twice.
    """

    file: str
    function: str
    first_line: int
    last_line: int
    before: str
    after: str
    text: str
    occurrence: int = 0

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What it is, wherever in its file the lines have moved to."""
        return self.file, self.function, self.before, self.after


def mutants_of(root: Path, file: str) -> list[Mutant]:
    """Every mutant of a file."""
    text = (root / file).read_text(encoding="utf-8")
    seen: Counter[tuple[str, str, str, str]] = Counter()
    found = []
    for mutant in _Mutations(file, text).all():
        found.append(replace(mutant, occurrence=seen[mutant.key]))
        seen[mutant.key] += 1
    return found


class _Mutations:
    def __init__(self, file: str, text: str) -> None:
        self._file = file
        self._text = text
        self._lines = text.split("\n")
        # ast counts bytes, and what is cut out of here are characters.
        self._encoded = [line.encode() for line in self._lines]

    def all(self) -> Iterator[Mutant]:
        yield from self._of_body(ast.parse(self._text).body, "", is_function=False)

    def _of_body(self, body: list[ast.stmt], name: str, *, is_function: bool) -> Iterator[Mutant]:
        for statement in body:
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                continue  # a docstring
            yield from self._of_statement(statement, name, is_function=is_function)

    def _of_statement(  # noqa: C901, PLR0912 - a case for each kind of statement
        self, statement: ast.stmt, name: str, *, is_function: bool
    ) -> Iterator[Mutant]:
        inside = name if is_function else ""
        if isinstance(statement, (ast.Import, ast.ImportFrom)) or _is_type_alias(statement):
            return
        if isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING":
            return
        if isinstance(statement, ast.ClassDef):
            # Its decorators say how a dataclass is made (frozen, slots): what would break that is
            # refused by the type checker, and no behaviour follows from it.
            qualified = f"{name}.{statement.name}" if name else statement.name
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
                    yield from self._of_expression(child, statement, inside)
            elif isinstance(child, ast.stmt):
                continue
            elif isinstance(child, ast.withitem):
                yield from self._of_expression(child.context_expr, statement, inside)
            elif isinstance(child, ast.ExceptHandler):
                if child.type:
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

    def _of_simple(self, statement: ast.stmt, inside: str) -> Iterator[Mutant]:
        """The statement left out, or its value."""
        made: list[str] = []
        match statement:
            case ast.Expr() | ast.Raise() | ast.Continue() | ast.Break() if inside:
                # A method that names no super has other free variables: it cannot be swapped.
                made = ["super()" if "super()" in ast.unparse(statement) else "pass"]
            case ast.Return(value=value) if value and not _is_as_good_as_none(value):
                made = [
                    "return super() and None" if "super()" in ast.unparse(value) else "return None"
                ]
            case ast.Assign(targets=targets, value=value) if inside:
                if not (isinstance(value, ast.Constant) and value.value is None):
                    made = [f"{' = '.join(ast.unparse(target) for target in targets)} = None"]
            case ast.AugAssign(target=target, op=op, value=value):
                operator = _ARITHMETIC.get(type(op))
                if operator:
                    changed = ast.AugAssign(target, operator(), value)
                    made = [ast.unparse(changed)]
                made.append(f"{ast.unparse(target)} = {ast.unparse(value)}")
        for after in made:
            yield self._mutant(statement, statement, after, inside)

    def _of_expression(self, node: ast.expr, around: ast.AST, inside: str) -> Iterator[Mutant]:
        if isinstance(node, ast.Call) and ast.unparse(node.func) in _TYPES_ONLY:
            # Of a cast only the value is more than a type.
            for argument in node.args[1:]:
                yield from self._of_expression(argument, around, inside)
            return
        for after in _changes(node):
            yield self._mutant(node, around, ast.unparse(after), inside)
        if isinstance(node, ast.JoinedStr):
            for part in node.values:
                if isinstance(part, ast.FormattedValue):
                    # Positions within an f-string are not exact: the whole of it is written anew.
                    for inner in _changes_within(part.value):
                        whole = copy.deepcopy(node)
                        place = node.values.index(part)
                        replaced = whole.values[place]
                        assert isinstance(replaced, ast.FormattedValue)
                        replaced.value = inner
                        yield self._mutant(node, around, ast.unparse(whole), inside)
            return
        for child in _expressions_of(node):
            yield from self._of_expression(child, around, inside)

    def _mutant(self, node: ast.AST, around: ast.AST, after: str, inside: str) -> Mutant:
        first, last = node.lineno - 1, node.end_lineno - 1  # type: ignore[attr-defined]
        before_node = self._encoded[first][: node.col_offset].decode()  # type: ignore[attr-defined]
        after_node = self._encoded[last][node.end_col_offset :].decode()  # type: ignore[attr-defined]
        needs_brackets = isinstance(node, ast.expr) and not isinstance(
            node, (ast.Constant, ast.Name, ast.Call, ast.JoinedStr)
        )
        written = f"({after})" if needs_brackets else after
        changed = before_node + written + after_node
        lines = [*self._lines[:first], changed, *self._lines[last + 1 :]]
        end = around.end_lineno  # type: ignore[attr-defined]
        body = getattr(around, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.stmt):
            end = max(around.lineno, body[0].lineno - 1)  # type: ignore[attr-defined]
        return Mutant(
            file=self._file,
            function=inside,
            first_line=around.lineno,  # type: ignore[attr-defined]
            last_line=end,
            before=" ".join(line.strip() for line in self._lines[first : last + 1]),
            after=changed.strip(),
            text="\n".join(lines),
        )


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
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            yield child
        elif isinstance(child, ast.keyword):
            yield child.value
        elif isinstance(child, ast.comprehension):
            yield child.iter
            yield from child.ifs


def _changes_within(node: ast.expr) -> Iterator[ast.expr]:
    """The changes of a node and of all expressions below it, each as a whole new node."""
    yield from _changes(node)
    for child in _expressions_of(node):
        for changed in _changes_within(child):
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
    node: ast.expr,
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
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            for place, operator in enumerate(ops):
                for other in _COMPARISONS[type(operator)]:
                    yield ast.Compare(left, [*ops[:place], other(), *ops[place + 1 :]], comparators)
        case ast.BoolOp(op=operator, values=values):
            other_word = ast.Or() if isinstance(operator, ast.And) else ast.And()
            yield ast.BoolOp(other_word, values)
            for place in range(len(values)):  # one of the conditions forgotten
                rest = values[:place] + values[place + 1 :]
                yield rest[0] if len(rest) == 1 else ast.BoolOp(operator, rest)
        case ast.UnaryOp(operand=operand):
            yield operand
        case ast.BinOp(left=left, op=operator, right=right):
            other_sign = _ARITHMETIC.get(type(operator))
            if other_sign:
                yield ast.BinOp(left, other_sign(), right)
        case ast.IfExp(test=test, body=body, orelse=orelse):
            yield ast.IfExp(test, orelse, body)
        case ast.Call(func=func, args=args, keywords=keywords):
            for place, argument in enumerate(args):
                if isinstance(argument, ast.Starred) or _is_none(argument):
                    continue
                nothing = [*args[:place], ast.Constant(None), *args[place + 1 :]]
                yield ast.Call(func, nothing, keywords)
            for place in range(len(keywords)):
                yield ast.Call(func, args, keywords[:place] + keywords[place + 1 :])


def _is_as_good_as_none(node: ast.expr) -> bool:
    """Whether it is None, or False: where the answer is yes or no, None says the same."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) in _TYPES_ONLY:
        return _is_as_good_as_none(node.args[-1])
    return isinstance(node, ast.Constant) and (node.value is None or node.value is False)


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None
