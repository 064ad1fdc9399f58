"""Finds the types of expressions, and checks what depends on them.

Source: Prometheus 3, promql/parser/parse.go (checkAST) and ast.go (Type).
"""

from __future__ import annotations

from varve.promql.function_table import AGGREGATIONS, FUNCTIONS
from varve.promql.interrupt import checked
from varve.promql.signatures import ValueType
from varve.promql.syntax.ast import (
    Aggregate,
    Binary,
    Call,
    Cardinality,
    Expr,
    MatchOp,
    MatrixSelector,
    NumberLiteral,
    Paren,
    Span,
    StringLiteral,
    Subquery,
    Unary,
    VectorMatching,
    VectorSelector,
)
from varve.promql.syntax.cursor import Cursor
from varve.promql.syntax.literals import quote
from varve.promql.syntax.printer import METRIC_LABEL
from varve.promql.syntax.regexes import matches_empty

COMPARISONS = frozenset({"==", "!=", "<", "<=", ">", ">="})
SET_OPERATORS = frozenset({"and", "or", "unless"})
_TYPE_OF_NODE: dict[type, ValueType] = {
    NumberLiteral: ValueType.SCALAR,
    StringLiteral: ValueType.STRING,
    VectorSelector: ValueType.VECTOR,
    MatrixSelector: ValueType.MATRIX,
    Subquery: ValueType.MATRIX,
    Aggregate: ValueType.VECTOR,
}
_OPERANDS = (ValueType.SCALAR, ValueType.VECTOR)


def expr_type(expr: Expr) -> ValueType:
    """The type of `expr`. It takes time in proportion to its operators, not to its size."""
    in_binary = False
    while (found := _TYPE_OF_NODE.get(type(expr))) is None:
        match expr:
            case Call():
                found = FUNCTIONS[expr.func].returns
                break
            case Binary():
                if expr.matching is not None or expr_type(expr.rhs) is not ValueType.SCALAR:
                    return ValueType.VECTOR
                in_binary, expr = True, expr.lhs
            case Paren() | Unary():
                expr = expr.expr
    return ValueType.VECTOR if in_binary and found is not ValueType.SCALAR else found


def check_types(c: Cursor, expr: Expr) -> ValueType:
    """Checks `expr`, its parts in reading order, and returns its type. Raises ParseError."""
    match expr:
        case Binary():
            return _check_chain(c, expr)
        case Call():
            return _check_call(c, expr)
        case Aggregate():
            _expect_type(c, expr.expr, ValueType.VECTOR, "aggregation expression")
            parameter = AGGREGATIONS[expr.op].parameter
            if expr.param is not None and parameter is not None:
                _expect_type(c, expr.param, parameter, "aggregation parameter")
        case Paren():
            return check_types(c, expr.expr)
        case Unary():
            found = check_types(c, expr.expr)
            if found not in _OPERANDS:
                raise c.error(
                    "unary expression only allowed on expressions of type scalar or instant"
                    f' vector, got "{found.documented}"',
                    expr.span,
                )
            return found
        case Subquery():
            found = check_types(c, expr.expr)
            if found is not ValueType.VECTOR:
                text = f"subquery is only allowed on instant vector, got {found.value} instead"
                raise c.error(text, expr.span)
        case MatrixSelector():
            _check_selector(c, expr.selector)
        case VectorSelector():
            _check_selector(c, expr)
    return _TYPE_OF_NODE[type(expr)]


def _expect_type(c: Cursor, expr: Expr, wanted: ValueType, context: str) -> None:
    found = check_types(c, expr)
    if found is not wanted:
        text = f"expected type {wanted.documented} in {context}, got {found.documented}"
        raise c.error(text, expr.span)


def _check_selector(c: Cursor, selector: VectorSelector) -> None:
    if selector.name:
        for matcher in selector.matchers[:-1]:
            if matcher.name == METRIC_LABEL:
                names = f"{quote(selector.name)} or {quote(matcher.value)}"
                raise c.error(f"metric name must not be set twice: {names}", selector.span)
        return
    for matcher in selector.matchers:
        if not _matches_empty(matcher.op, matcher.value):
            return
    text = "vector selector must contain at least one non-empty matcher"
    raise c.error(text, selector.span)


def _matches_empty(op: MatchOp, value: str) -> bool:
    if op is MatchOp.EQUAL:
        return not value
    if op is MatchOp.NOT_EQUAL:
        return bool(value)
    return matches_empty(value) is (op is MatchOp.REGEX)


def _check_call(c: Cursor, call: Call) -> ValueType:
    signature, count = FUNCTIONS[call.func], len(call.args)
    bounds = (signature.least_args, signature.most_args)
    if count < bounds[0] or (bounds[1] is not None and count > bounds[1]):
        at = f"argument(s) in call to {quote(call.func)}, got {count}"
        if not signature.variadic:
            raise c.error(f"expected {bounds[0]} {at}", call.span)
        which = f"at least {bounds[0]}" if count < bounds[0] else f"at most {bounds[1]}"
        raise c.error(f"expected {which} {at}", call.span)
    context = f"call to function {quote(call.func)}"
    is_info = call.func == "info" and count > 1
    if is_info:
        _check_info_labels(c, call, call.args[1])
    for place, arg in enumerate(call.args):
        if is_info and place == 1:
            continue
        wanted = signature.args[min(place, len(signature.args) - 1)]
        _expect_type(c, arg, wanted, context)
    return signature.returns


def _check_info_labels(c: Cursor, call: Call, arg: Expr) -> None:
    """Checks the second argument of info(), a selector that only lists label matchers."""
    found = expr_type(arg)
    if found is not ValueType.VECTOR:
        text = f'expected type instant vector in call to function "info", got {found.documented}'
        raise c.error(text, call.span)
    if not isinstance(arg, VectorSelector):
        raise c.error("expected label selectors only", arg.span)
    if arg.name:
        text = "expected label selectors only, got vector selector instead"
        raise c.error(text, arg.span)


def _check_chain(c: Cursor, expr: Binary) -> ValueType:
    """Checks operators of one precedence without recursion: they may be thousands deep."""
    chain = [expr]
    while isinstance(chain[-1].lhs, Binary):
        chain.append(chain[-1].lhs)
    found = check_types(c, chain[-1].lhs)
    for binary in checked(reversed(chain), c.check):
        found = _check_binary(c, binary, found, check_types(c, binary.rhs))
    return found


def _check_binary(c: Cursor, expr: Binary, left: ValueType, right: ValueType) -> ValueType:
    scalars = left is right is ValueType.SCALAR
    _check_operator(c, expr, scalars=scalars)
    for side, found in ((expr.lhs, left), (expr.rhs, right)):
        if found not in _OPERANDS:
            text = "binary expression must contain only scalar and instant vector types"
            raise c.error(text, side.span)
    if left is right is ValueType.VECTOR:
        if expr.op in SET_OPERATORS and expr.matching is not None:
            _check_set_operator(c, expr, expr.matching)
        return ValueType.VECTOR
    if expr.matching is not None:
        what = "vector matching" if expr.matching.labels else "filling in missing series"
        raise c.error(f"{what} only allowed between instant vectors", expr.span)
    if expr.op in SET_OPERATORS:
        text = f"set operator {quote(expr.op)} not allowed in binary scalar expression"
        raise c.error(text, expr.span)
    return ValueType.SCALAR if scalars else ValueType.VECTOR


def _check_operator(c: Cursor, expr: Binary, *, scalars: bool) -> None:
    """Checks what upstream reports at the operator."""
    text, matching = "", expr.matching
    if expr.return_bool and expr.op not in COMPARISONS:
        text = "bool modifier can only be used on comparison operators"
    elif scalars and expr.op in COMPARISONS and not expr.return_bool:
        text = "comparisons between scalars must use BOOL modifier"
    elif matching is not None and matching.on:
        included = set(matching.include)
        twice = next((label for label in matching.labels if label in included), None)
        if twice is not None:
            text = f"label {quote(twice)} must not occur in ON and GROUP clause at once"
    if text:
        raise c.error(text, _operator_span(c, expr))


def _check_set_operator(c: Cursor, expr: Binary, matching: VectorMatching) -> None:
    if matching.cardinality is not Cardinality.MANY_TO_MANY:
        raise c.error(f"no grouping allowed for {quote(expr.op)} operation", expr.span)
    if matching.fill_lhs is not None or matching.fill_rhs is not None:
        raise c.error("filling in missing series not allowed for set operators", expr.span)


def _operator_span(c: Cursor, expr: Binary) -> Span:
    """Where upstream points for an operator: from it up to the right side."""
    text, start, end = c.query, expr.lhs.span.end, expr.rhs.span.start - 1
    while text[start : start + 1].isspace():
        start += 1
    while end > start and text[end : end + 1].isspace():
        end -= 1
    return Span(start, end)
