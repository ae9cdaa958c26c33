"""One call, ours and the floor's, in nanoseconds."""

from __future__ import annotations

import pytest

from benches import floor
from benches.operations import CALL, EMPTY, FLOOR, KEY, OURS, Operation

BUILT = floor.build() is None


@pytest.mark.parametrize("operation", [EMPTY, CALL, *OURS, *FLOOR], ids=lambda o: o.name)
def test_call(operation: Operation, timed) -> None:
    if operation in FLOOR and not BUILT:
        pytest.skip(f"the floor could not be built: {floor.build()}")
    timed("one call", operation.name, operation.statement, n=operation.n, p=operation.picker(operation.n), k=KEY)


@pytest.mark.parametrize("n", [8, 64, 512])
@pytest.mark.parametrize("operation", [o for o in OURS if "n =" not in o.name and o.name != "with acquire"])
def test_growth(operation: Operation, n: int, timed) -> None:
    timed("growth with n", operation.name, operation.statement, n=n, p=operation.picker(n), k=KEY)
