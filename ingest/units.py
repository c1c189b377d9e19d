"""Exact conversions to the lake's units: int64 nanoseconds, bytes."""

from __future__ import annotations

from decimal import Decimal


def us_to_ns(value: Decimal | int) -> int:
    """Convert microseconds to whole nanoseconds, exactly (a rest below 1 ns is rounded half to even).

    >>> us_to_ns(Decimal("12.345"))
    12345
    """
    return int(Decimal(value).scaleb(3).to_integral_value())


def s_to_ns(value: Decimal | float) -> int:
    """Convert seconds to whole nanoseconds.

    A float is taken at its shortest decimal form, which is what its writer printed.

    >>> s_to_ns(0.1)
    100000000
    """
    return int(Decimal(repr(value) if isinstance(value, float) else value).scaleb(9).to_integral_value())
