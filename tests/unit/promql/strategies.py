"""Random syntax trees, all of them such as the parser makes: valid, typed and in normal form."""

import math
import re
import string
from functools import cache

from hypothesis import strategies as st

from varve.promql.function_table import AGGREGATIONS, FUNCTIONS
from varve.promql.signatures import ValueType
from varve.promql.syntax.ast import (
    Aggregate,
    At,
    Binary,
    Call,
    Cardinality,
    DurationExpr,
    Matcher,
    MatchOp,
    MatrixSelector,
    NumberLiteral,
    Paren,
    StringLiteral,
    Subquery,
    Unary,
    VectorMatching,
    VectorSelector,
)
from varve.promql.syntax.printer import METRIC_LABEL, matcher_text
from varve.promql.syntax.selector_parser import METRIC_WORDS
from varve.promql.syntax.tokens import KEYWORDS
from varve.promql.syntax.typecheck import COMPARISONS, SET_OPERATORS

SCALAR, TEXT, VECTOR, MATRIX = (
    ValueType.SCALAR,
    ValueType.STRING,
    ValueType.VECTOR,
    ValueType.MATRIX,
)
PRECEDENCE = {
    "or": 1,
    "and": 2,
    "unless": 2,
    "==": 3,
    "!=": 3,
    "<": 3,
    "<=": 3,
    ">": 3,
    ">=": 3,
    "</": 3,
    ">/": 3,
    "+": 4,
    "-": 4,
    "*": 5,
    "/": 5,
    "%": 5,
    "atan2": 5,
    "^": 6,
}
POWER = 6
OPERAND = 7
"""Precedence of what needs no parentheses anywhere; a signed one counts as POWER on the left."""
MAX_SPAN_S = 10**9
FUNCTIONS_BY_TYPE = {
    kind: sorted(name for name, found in FUNCTIONS.items() if found.returns is kind)
    for kind in (VECTOR, SCALAR)
}
REGEXES = ["", "a", ".*", ".+", "a|b", "5..", r"\d+", "(?i)x", "[a-z]{2}", "é.*"]

texts = st.one_of(
    st.text(max_size=8),
    st.binary(max_size=6).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
)
label_texts = st.text(min_size=1, max_size=6)
words = st.sampled_from(sorted(METRIC_WORDS | set(map(str.upper, METRIC_WORDS)) | set(FUNCTIONS)))


def _is_free(name):
    return KEYWORDS.get(name.lower()) is None


free_names = st.from_regex(re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]{0,6}", re.ASCII), fullmatch=True)
metric_names = st.one_of(free_names.filter(_is_free), words)
plain_labels = st.text(string.ascii_letters + "_", min_size=1, max_size=5)
label_names = st.one_of(plain_labels, label_texts, st.sampled_from(["on", "bool", "by", "inf"]))
finite = st.floats(allow_nan=False, allow_infinity=False)
numbers = st.one_of(finite.map(abs), st.integers(0, 99).map(float))
spans_ms = st.integers(1, MAX_SPAN_S * 1000)
times = st.one_of(
    st.none(),
    st.integers(-(2**52), 2**52).map(At),
    st.sampled_from([At("start"), At("end")]),
)


def _number(value, *, is_duration=False):
    return NumberLiteral(value, is_duration=is_duration)


@cache
@st.composite
def matchers(draw):
    op = draw(st.sampled_from(MatchOp))
    is_regex = op in (MatchOp.REGEX, MatchOp.NOT_REGEX)
    value = draw(st.sampled_from(REGEXES) if is_regex else texts)
    name = draw(label_names.filter(lambda name: name != METRIC_LABEL))
    return Matcher(name, op, value)


matcher_lists = st.lists(matchers(), max_size=3)
label_lists = st.lists(label_names, max_size=3)
fills = st.one_of(st.none(), finite, st.sampled_from([math.nan, math.inf, -math.inf]))


def _sorted(found):
    return tuple(sorted(found, key=matcher_text))


@cache
@st.composite
def selectors(draw):
    found = draw(matcher_lists)
    if draw(st.booleans()):
        name = draw(metric_names)
        labels = (*_sorted(found), Matcher(METRIC_LABEL, MatchOp.EQUAL, name))
    else:
        name = ""
        sure = Matcher(METRIC_LABEL, MatchOp.EQUAL, draw(label_texts))
        labels = _sorted([*found, sure])
    anchored, smoothed = draw(st.sampled_from([(False, False), (True, False), (False, True)]))
    offset = draw(offsets())
    return VectorSelector(name, labels, offset, draw(times), anchored, smoothed)


@cache
def literal_durations():
    """Positive, written either way: in brackets and after offset both mean a duration."""
    odd = st.floats(min_value=1e-9, max_value=MAX_SPAN_S)
    return st.one_of(spans_ms.map(lambda ms: ms / 1000), odd).map(
        lambda seconds: _number(seconds, is_duration=True)
    )


@cache
@st.composite
def duration_operands(draw, depth):
    """What stands in duration arithmetic, with its precedence."""
    kind = draw(st.sampled_from(["literal", "number", "call"] + ["tree"] * (depth > 0)))
    if kind == "literal":
        return _number(draw(spans_ms) / 1000, is_duration=True), OPERAND
    if kind == "number":
        return _number(draw(st.floats(0, MAX_SPAN_S))), OPERAND
    if kind == "call":
        op = draw(st.sampled_from(["step", "range"] + ["min", "max"] * (depth > 0)))
        low = high = None
        if op in ("min", "max"):
            low, high = draw(duration_trees(depth - 1))[0], draw(duration_trees(depth - 1))[0]
        return DurationExpr(op, low, high, draw(st.booleans())), OPERAND
    inner, precedence = draw(duration_trees(depth - 1))
    if isinstance(inner, DurationExpr) and not inner.wrapped and draw(st.booleans()):
        wrapped = DurationExpr(inner.op, inner.lhs, inner.rhs, True)
        return wrapped, OPERAND
    return inner, precedence


@cache
@st.composite
def duration_trees(draw, depth=2):
    left, left_precedence = draw(duration_operands(depth))
    shape = draw(st.sampled_from(["as is", "as is", "signed", "binary"]))
    if shape == "signed" and left_precedence >= POWER:
        if isinstance(left, NumberLiteral):
            return _number(-left.value, is_duration=left.is_duration), POWER
        return DurationExpr("-", None, left), POWER
    if shape == "binary" and depth > 0:
        op = draw(st.sampled_from("+-*/%^"))
        right, right_precedence = draw(duration_operands(depth))
        if _fits_left(op, left, left_precedence) and _fits_right(op, right, right_precedence):
            is_zero = isinstance(right, NumberLiteral) and right.value == 0
            if not (op in "/%" and is_zero):
                return DurationExpr(op, left, right), PRECEDENCE[op]
    return left, left_precedence


def _is_signed(node):
    match node:
        case NumberLiteral(value=value):
            return math.copysign(1, value) < 0
        case DurationExpr(op="-", lhs=None, wrapped=False) | Unary():
            return True
    return False


def _fits_left(op, node, precedence):
    """Whether `node` may stand before `op` without parentheses."""
    if op == "^":
        return precedence == OPERAND and not _is_signed(node)
    return precedence >= PRECEDENCE[op]


def _fits_right(op, node, precedence):
    if _is_signed(node):
        return True
    return precedence >= PRECEDENCE[op] + (op != "^")


@cache
@st.composite
def ranges(draw):
    if draw(st.booleans()):
        return draw(literal_durations())
    tree, _ = draw(duration_trees())
    return _positive(tree)


def _positive(tree):
    if isinstance(tree, NumberLiteral):
        return _number(abs(tree.value) or 1.0, is_duration=True)
    return tree


@cache
@st.composite
def offsets(draw):
    if draw(st.booleans()):
        return None
    tree, _ = draw(duration_trees())
    if isinstance(tree, NumberLiteral):
        value = tree.value if round(tree.value * 1e9) else 60.0
        return _number(value, is_duration=True)
    if tree.op not in ("step", "range", "min", "max"):
        tree = DurationExpr(tree.op, tree.lhs, tree.rhs, True)
    return DurationExpr("-", None, tree) if draw(st.booleans()) else tree


@cache
@st.composite
def matchings(draw, op):
    labels = tuple(draw(label_lists))
    on = draw(st.booleans())
    if op in SET_OPERATORS:
        return VectorMatching(Cardinality.MANY_TO_MANY, labels, on)
    cardinality = draw(
        st.sampled_from([Cardinality.ONE_TO_ONE, Cardinality.MANY_TO_ONE, Cardinality.ONE_TO_MANY])
    )
    include = ()
    if cardinality is not Cardinality.ONE_TO_ONE:
        include = tuple(label for label in draw(label_lists) if label not in labels)
    return VectorMatching(cardinality, labels, on, include, draw(fills), draw(fills))


@cache
@st.composite
def leaves(draw, wanted):
    if wanted is VECTOR:
        return draw(selectors()), OPERAND
    if wanted is MATRIX:
        return MatrixSelector(draw(selectors()), draw(ranges())), OPERAND
    if wanted is TEXT:
        return StringLiteral(draw(texts)), OPERAND
    kind = draw(st.sampled_from(["number", "duration", "special", "negative"]))
    if kind == "duration":
        return _number(draw(spans_ms) / 1000, is_duration=True), OPERAND
    if kind == "special":
        return _number(draw(st.sampled_from([math.nan, math.inf]))), OPERAND
    value = draw(numbers)
    return (_number(-value), POWER) if kind == "negative" else (_number(value), OPERAND)


@cache
@st.composite
def trees(draw, wanted, depth):
    """A tree of type `wanted` and its precedence."""
    if depth <= 0 or draw(st.integers(0, 3)) == 0:
        return draw(leaves(wanted))
    makers = {
        VECTOR: [_call, _aggregate, _binary, _unary, _paren],
        SCALAR: [_call, _binary, _unary, _paren],
        TEXT: [_paren],
        MATRIX: [_subquery, _paren],
    }[wanted]
    return draw(st.sampled_from(makers))(draw, wanted, depth - 1)


def _call(draw, wanted, depth):
    signature = FUNCTIONS[draw(st.sampled_from(FUNCTIONS_BY_TYPE[wanted]))]
    most = signature.most_args
    count = draw(
        st.integers(signature.least_args, signature.least_args + 2 if most is None else most)
    )
    types = [signature.args[min(i, len(signature.args) - 1)] for i in range(count)]
    args = [draw(trees(kind, depth))[0] for kind in types]
    if signature.name == "info" and count == 2:
        args[1] = VectorSelector("", _sorted(draw(matcher_lists)))
    return Call(signature.name, tuple(args)), OPERAND


def _aggregate(draw, wanted, depth):
    op = draw(st.sampled_from(sorted(AGGREGATIONS)))
    kind = AGGREGATIONS[op].parameter
    param = None if kind is None else draw(trees(kind, depth))[0]
    without = draw(st.booleans())
    grouping = tuple(draw(label_lists))
    return Aggregate(op, draw(trees(VECTOR, depth))[0], param, grouping, without), OPERAND


def _binary(draw, wanted, depth):
    sides = (SCALAR, SCALAR)
    if wanted is VECTOR:
        sides = draw(st.sampled_from([(VECTOR, VECTOR), (VECTOR, SCALAR), (SCALAR, VECTOR)]))
    of_vectors = sides == (VECTOR, VECTOR)
    op = draw(st.sampled_from([o for o in PRECEDENCE if of_vectors or o not in SET_OPERATORS]))
    left, left_precedence = draw(trees(sides[0], depth))
    right, right_precedence = draw(trees(sides[1], depth))
    left = left if _fits_left(op, left, left_precedence) else Paren(left)
    right = right if _fits_right(op, right, right_precedence) else Paren(right)
    return_bool = op in COMPARISONS and (SCALAR is sides[0] is sides[1] or draw(st.booleans()))
    matching = draw(matchings(op)) if of_vectors else None
    return Binary(op, left, right, return_bool, matching), PRECEDENCE[op]


def _unary(draw, wanted, depth):
    operand, precedence = draw(trees(wanted, depth))
    if isinstance(operand, NumberLiteral) or precedence < POWER:
        operand = Paren(operand)
    return Unary(draw(st.sampled_from("+-")), operand), POWER


def _paren(draw, wanted, depth):
    return Paren(draw(trees(wanted, depth))[0]), OPERAND


def _subquery(draw, wanted, depth):
    inner, precedence = draw(trees(VECTOR, depth))
    if precedence < OPERAND:
        inner = Paren(inner)
    step = draw(st.one_of(st.none(), ranges()))
    return Subquery(inner, draw(ranges()), step, draw(offsets()), draw(times)), OPERAND


def expressions(depth=4):
    """Trees of every type."""
    return st.sampled_from(ValueType).flatmap(lambda kind: trees(kind, depth)).map(lambda t: t[0])
