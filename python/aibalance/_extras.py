"""Third-party packages, imported when they are first needed."""

from __future__ import annotations

import importlib
from typing import Any

from ._errors import ConfigError

__all__ = ["need"]


def need(module: str, extra: str) -> Any:
    """The module; ConfigError that says what to install where it is missing."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if error.name is not None and not (module + ".").startswith(error.name + "."):
            raise  # it is there, and broken
        raise ConfigError(f"{extra}: {module} is not installed; pip install aibalance[{extra}]") from None
