"""Which format a file is of, and who reads it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from .._errors import FormatError
from ._fields import decode, json_as_yaml, where
from ._yaml import documents
from .model import Imported, Remark, Report

FORMATS = ("nginx", "haproxy", "terraform", "yaml")
"""Names for `format`: "yaml" is Kubernetes, KEDA, Knative, Envoy, Ray Serve and calls of boto3, told by content."""


def read(*paths: str | os.PathLike[str], format: str | None = None) -> Imported:
    """What files come to, read together: references go from one to the other.

    `format`: one of FORMATS; None tells it by name and content. What is wrong in them is in `refused`, each with file,
    line and field: `.check()` raises for it. Raises FormatError for a file that cannot be read, or told.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "api.conf")
    ...     _ = file.write_text("upstream api { least_conn; server a:80; }")
    ...     read(file).check().pool("api").picker.name
    'LeastConnections'
    """
    files = []
    for path in paths:
        shown = os.fspath(path)
        try:
            files.append((decode(Path(path).read_bytes(), shown), shown))
        except (OSError, ValueError) as error:
            if isinstance(error, FormatError):
                raise
            raise FormatError(f"{shown}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    return _read(files, format)


def read_text(text: str, name: str = "text", *, format: str | None = None) -> Imported:
    """What a text comes to; `name` stands in messages and, without a `format`, says by its end what it is.

    >>> read_text("kind: Deployment", "a.yaml").ignored[0].reason
    'a Deployment decides neither picks nor sizes'
    """
    return _read([(decode(text.encode("utf-8", "surrogatepass"), name), name)], format)


def _read(files: list[tuple[str, str]], format: str | None) -> Imported:
    from . import boto3, envoy, haproxy, manifests, nginx, terraform

    if format is not None and format not in FORMATS:
        raise FormatError(f"format: {format!r} is not allowed; one of {', '.join(FORMATS)}")
    report = Report()
    of_terraform, of_kubernetes, of_boto3 = [], [], []
    for text, name in files:
        kind = format or _told(text, name)
        if kind == "nginx":
            report.guard(name, lambda t=text, n=name: nginx.read(t, n, report))  # type: ignore[misc]
        elif kind == "haproxy":
            haproxy.read(text, name, report)
        elif kind == "terraform":
            of_terraform.append((text, name))
        else:
            try:
                found = [top for top in documents(json_as_yaml(text), name) if top.value is not None]
            except FormatError as error:
                report.refuse(error, f"{name}:1")
                continue
            if not found:
                report.refused.append(Remark(f"{name}:1", "", "nothing is in it"))
            for top in found:
                if boto3.is_calls(top):
                    of_boto3.append(top)
                elif envoy.is_envoy(top):
                    report.guard(where(top), lambda t=top: envoy.read(t, report))  # type: ignore[misc]
                elif manifests.is_ray_serve(top):
                    report.guard(where(top), lambda t=top: manifests.read_ray_serve(t, report))  # type: ignore[misc]
                else:
                    of_kubernetes.append(top)
    manifests.read_documents(of_kubernetes, report)
    if of_terraform:
        terraform.read(of_terraform, report)
    if of_boto3:
        boto3.read(of_boto3, report)
    return report.done()


def _told(text: str, name: str) -> str:
    """Which format a file is of."""
    lower = name.lower()
    if lower.endswith((".tf", ".tf.json", ".hcl")):
        return "terraform"
    if lower.endswith((".yaml", ".yml", ".json")):
        return "yaml"
    if "haproxy" in lower or re.search(r"^(backend|frontend|listen|defaults|global)\b[^{;]*$", text, re.MULTILINE):
        return "haproxy"
    if lower.endswith(".conf") or re.search(r"^\s*(upstream\s+\S+|server|http|stream)\s*\{", text, re.MULTILINE):
        return "nginx"
    if lower.endswith(".cfg"):
        return "haproxy"
    raise FormatError(f"{name}:1: not told what it is; say so by format: {', '.join(FORMATS)}")
