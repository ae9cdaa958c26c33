"""KEDA's external scaler (`pip install aibalance[keda]`)."""

from __future__ import annotations

from ._keda import KedaScaler, ScaledObject

__all__ = ["KedaScaler", "ScaledObject"]
