"""Several series of bars in one pass: numbers that a kernel adds, multiplies and compares side by side.

Series lie interleaved: of n lanes, bar i of lane k stands at place i n + k, so the bar before is n places earlier. The
four hourly series of a market are in that order already when its quarter hours are. `take` reads neighbouring lanes at
once and `put` writes them; between them stands the arithmetic of one lane, written as for plain numbers. Each lane has
its own sum in its own order: what a lane finds has the same bits alone and beside others.

How many lanes go together is the length of `side_by_side`, which every kernel is handed: its type tells the compiler,
and a kernel is compiled once for each width. These functions are for kernels alone.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir
from numba import types
from numba.core.cgutils import get_or_insert_function
from numba.core.typeconv.castgraph import Conversion
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.cpython.unsafe import numbers
from numba.extending import intrinsic, lower_builtin, lower_cast, models, register_model

WIDTH = 4
"""Lanes that go together: what a vector of AVX2 holds, and what a market has of hourly series."""
WIDEST = 16
"""What a market has of 4-hour series: sums of four vectors wait for each other less than those of one."""


def side_by_side(lanes: int, *widths: int) -> tuple[float, ...]:
    """As many zeros as lanes of so many are computed at once: the first of the widths that leaves no rest, or one."""
    return (0.0,) * next((width for width in widths or (WIDEST, WIDTH) if lanes % width == 0), 1)


def _built_in(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that the compiler writes itself: given the types, it tells the result's and how to make it."""
    return cast(Callable[..., Any], intrinsic(function))


class Lanes(types.Type):
    """The numbers of some lanes at one bar."""

    def __init__(self, count: int) -> None:
        self.count = count
        super().__init__(name=f"Lanes({count})")

    def can_convert_from(self, _: object, other: types.Type) -> Conversion | None:
        return Conversion.promote if isinstance(other, types.Float | types.Integer) else None


class Truths(types.Type):
    """Something that holds for some of the lanes."""

    def __init__(self, count: int) -> None:
        self.count = count
        super().__init__(name=f"Truths({count})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, lanes: Lanes) -> None:
        super().__init__(manager, lanes, ir.VectorType(ir.DoubleType(), lanes.count))


@register_model(Truths)
class _TruthsModel(models.PrimitiveModel):
    def __init__(self, manager: Any, truths: Truths) -> None:
        super().__init__(manager, truths, ir.VectorType(ir.IntType(1), truths.count))


@lower_cast(types.Float, Lanes)
@lower_cast(types.Integer, Lanes)
def _spread(context: Any, builder: Any, source: types.Type, lanes: Lanes, number: Any) -> Any:
    vector = ir.VectorType(ir.DoubleType(), lanes.count)
    places = ir.VectorType(ir.IntType(32), lanes.count)
    number = context.cast(builder, number, source, types.float64)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), number, ir.IntType(32)(0))
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), ir.Constant(places, [0] * lanes.count))


def _operation(symbol: Any, kinds: type, result: type, instruction: str, *first: str) -> None:
    """Lets kernels write `symbol` between lanes, or between lanes and a number: an instruction of LLVM."""

    @infer_global(symbol)
    class _Typing(AbstractTemplate):
        def generic(self, args: tuple[types.Type, ...], _: object) -> Any:
            sides = [one for one in args if isinstance(one, kinds)]
            if len(args) != 2 or not sides:
                return None
            kind: Any = sides[0]
            return signature(result(kind.count), kind, kind)

    @lower_builtin(symbol, kinds, kinds)
    def _lower(_: object, builder: Any, __: object, args: tuple[Any, Any]) -> Any:
        return getattr(builder, instruction)(*first, *args)


for _symbol, _instruction in {"add": "fadd", "sub": "fsub", "mul": "fmul", "truediv": "fdiv"}.items():
    for _name in (_symbol, f"i{_symbol}"):
        _operation(getattr(operator, _name), Lanes, Lanes, _instruction)
for _symbol, _comparison in {"gt": ">", "ge": ">=", "lt": "<", "eq": "=="}.items():
    _operation(getattr(operator, _symbol), Lanes, Truths, "fcmp_ordered", _comparison)
for _symbol in ("and_", "iand"):
    _operation(getattr(operator, _symbol), Truths, Truths, "and_")


def _address(context: Any, builder: Any, kinds: Any, values: Any, place: Any, count: int) -> Any:
    data = context.make_array(kinds[0])(context, builder, values).data
    first = builder.gep(data, [context.cast(builder, place, kinds[1], types.intp)])
    return builder.bitcast(first, ir.VectorType(ir.DoubleType(), count).as_pointer())


@_built_in
def take(_: Any, values: Any, place: Any, together: Any) -> Any:
    """The numbers at `place` and after it of a contiguous array, one for each lane."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(_address(context, builder, sig.args, args[0], args[1], len(together)), align=8)

    return Lanes(len(together))(values, place, together), lower


@_built_in
def put(_: Any, values: Any, place: Any, lanes: Any) -> Any:
    """Writes the numbers to `place` and after it."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store(args[2], _address(context, builder, sig.args, args[0], args[1], lanes.count), align=8)
        return context.get_dummy_value()

    return types.void(values, place, lanes), lower


@_built_in
def spread(_: Any, number: Any, together: Any) -> Any:
    """One number for each lane."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _spread(context, builder, sig.args[0], sig.return_type, args[0])

    return Lanes(len(together))(number, together), lower


@_built_in
def where(_: Any, truths: Any, lanes: Any, otherwise: Any) -> Any:
    """Of each lane the number where it holds, and otherwise the other one."""

    def lower(_: Any, builder: Any, __: Any, args: Any) -> Any:
        return builder.select(*args)

    kind = Lanes(truths.count)
    return kind(truths, kind, kind), lower


@_built_in
def roots(_: Any, lanes: Any) -> Any:
    """The square roots; NaN below 0."""

    def lower(_: Any, builder: Any, sig: Any, args: Any) -> Any:
        vector = ir.VectorType(ir.DoubleType(), lanes.count)
        function = ir.FunctionType(vector, [vector])
        return builder.call(get_or_insert_function(builder.module, function, f"llvm.sqrt.v{lanes.count}f64"), args)

    return lanes(lanes), lower


@_built_in
def fused(_: Any, a: Any, b: Any, c: Any) -> Any:
    """a b + c, rounded once: with c = -(a b) what the product has dropped."""

    def lower(_: Any, builder: Any, sig: Any, args: Any) -> Any:
        vector = ir.VectorType(ir.DoubleType(), a.count)
        function = ir.FunctionType(vector, [vector, vector, vector])
        return builder.call(get_or_insert_function(builder.module, function, f"llvm.fma.v{a.count}f64"), args)

    return a(a, a, a), lower


@_built_in
def upper_half(_: Any, lanes: Any) -> Any:
    """The upper 32 bits of positive numbers, as whole ones: 2^20 times a logarithm of base 2 by straight lines."""

    def lower(_: Any, builder: Any, __: Any, args: Any) -> Any:
        words = ir.VectorType(ir.IntType(64), lanes.count)
        upper = builder.lshr(builder.bitcast(args[0], words), ir.Constant(words, [32] * lanes.count))
        halves = builder.trunc(upper, ir.VectorType(ir.IntType(32), lanes.count))
        return builder.sitofp(halves, ir.VectorType(ir.DoubleType(), lanes.count))

    return lanes(lanes), lower


@_built_in
def with_upper_half(_: Any, lanes: Any) -> Any:
    """The positive numbers with these upper 32 bits, and no others."""

    def lower(_: Any, builder: Any, __: Any, args: Any) -> Any:
        words = ir.VectorType(ir.IntType(64), lanes.count)
        halves = builder.fptosi(args[0], ir.VectorType(ir.IntType(32), lanes.count))
        upper = builder.shl(builder.zext(halves, words), ir.Constant(words, [32] * lanes.count))
        return builder.bitcast(upper, ir.VectorType(ir.DoubleType(), lanes.count))

    return lanes(lanes), lower


@_built_in
def whole(_: Any, truths: Any) -> Any:
    """Whether it holds for all lanes."""

    def lower(_: Any, builder: Any, __: Any, args: Any) -> Any:
        bits = ir.IntType(truths.count)
        return builder.icmp_unsigned("==", builder.bitcast(args[0], bits), ir.Constant(bits, -1))

    return types.boolean(truths), lower


leading_zeros = cast(Callable[[int], int], numbers.leading_zeros)
"""How many of the 64 bits are 0 before the first that is not."""
trailing_zeros = cast(Callable[[int], int], numbers.trailing_zeros)
"""How many are 0 after the last."""
