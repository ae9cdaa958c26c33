"""Envoy: which endpoint a request goes to (ext_proc), what endpoints there are (EDS), and a configuration.

Needs `grpcio`, `grpcio-health-checking` and Envoy's messages, `xds-protos` (`pip install aibalance[envoy]`). Source:
Envoy 1.40; the endpoint picker protocol 1.0.0 of the Gateway API Inference Extension (its proposal 004).
"""

from __future__ import annotations

from ._eds import EdsPublisher, load_assignment, weights, write_eds_file
from ._envoy_config import envoy_config
from ._epp import EndpointPicker

__all__ = ["EdsPublisher", "EndpointPicker", "envoy_config", "load_assignment", "weights", "write_eds_file"]
