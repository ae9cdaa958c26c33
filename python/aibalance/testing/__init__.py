"""Whether a picker behaves: `check_picker` for yours and for ours, and the Hypothesis strategies that it works with."""

from __future__ import annotations

from ._check import Fault, PickerCheckError, PickerReport, check_picker
from ._claims import claims_of
from ._model import Event, Script, run_script
from ._policy import LoadPoint, PolicyCheckError, PolicyReport, check_policy, loads
from ._strategies import Request, endpoints, keys, scripts, traffic

__all__ = [
    "Event",
    "Fault",
    "LoadPoint",
    "PickerCheckError",
    "PickerReport",
    "PolicyCheckError",
    "PolicyReport",
    "Request",
    "Script",
    "check_picker",
    "check_policy",
    "claims_of",
    "endpoints",
    "keys",
    "loads",
    "run_script",
    "scripts",
    "traffic",
]
