"""Where endpoints come from: DNS, EndpointSlices, a file (`pip install aibalance[dns]` for DNS)."""

from __future__ import annotations

from ._discovery import Discovery, DnsSource, FileSource, Found, from_endpoint_slices

__all__ = ["Discovery", "DnsSource", "FileSource", "Found", "from_endpoint_slices"]
