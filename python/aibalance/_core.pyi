from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__version__: str

# --- simulation ---

def _simulate(
    args: Mapping[str, Any],
    balancer: Any,
    scaler: Callable[[float, Mapping[str, Any]], int | None] | None,
    *,
    seed: int,
    records: bool,
    progress: Callable[[float], object] | None,
    arrival_s: NDArray[np.float64] | None,
    work_s: NDArray[np.float64] | None,
) -> dict[str, Any]: ...
def _simulate_balancer_seed(seed: int) -> int: ...
def _simulate_work_sums(args: Mapping[str, Any], seed: int, n: int, levels: list[float]) -> list[float]: ...
