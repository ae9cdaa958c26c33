"""As much of a Kubernetes API server as kopf and the kubernetes client ask for: Deployments, their scale, events."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

DEPLOYMENTS = {
    "name": "deployments",
    "singularName": "deployment",
    "namespaced": True,
    "kind": "Deployment",
    "verbs": ["get", "list", "watch", "patch"],
    "shortNames": ["deploy"],
}
EVENTS = {"name": "events", "singularName": "", "namespaced": True, "kind": "Event", "verbs": ["create"]}
NAMESPACES = {"name": "namespaces", "singularName": "", "namespaced": False, "kind": "Namespace", "verbs": ["list"]}


class ApiServer:
    """Objects by namespace and name, each with a resourceVersion; who watches is told of each change."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []
        self.scales: list[int] = []
        self.patches: list[tuple[str, str]] = []  # path and content type
        self.broken: set[str] = set()  # methods that are answered with 500; "annotations": a patch of them is with 403
        self.version = 100
        self.url = ""
        self._watching: set[asyncio.Queue[dict[str, Any] | None]] = set()

    def put(self, name: str, annotations: dict[str, str], *, replicas: int = 2, ready: int | None = None) -> None:
        """A Deployment, new or changed."""
        at = "prod", name
        kind = "MODIFIED" if at in self.objects else "ADDED"
        self.objects[at] = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": "prod", "uid": f"uid-{name}", "annotations": dict(annotations)},
            "spec": {"replicas": replicas},
            "status": {"readyReplicas": replicas if ready is None else ready},
        }
        self._changed(at, kind)

    def delete(self, name: str) -> None:
        self._changed(("prod", name), "DELETED")
        del self.objects["prod", name]

    def annotate(self, name: str, **annotations: str | None) -> None:
        """Names with _ for -; None takes one away."""
        had = self.objects["prod", name]["metadata"]["annotations"]
        for key, value in annotations.items():
            full = f"aibalance/{key.replace('_', '-')}"
            had.pop(full, None)
            if value is not None:
                had[full] = value
        self._changed(("prod", name), "MODIFIED")

    def annotation(self, name: str, key: str) -> Any:
        return json.loads(self.objects["prod", name]["metadata"]["annotations"].get(f"aibalance/{key}", "null"))

    def replicas(self, name: str) -> int:
        count: int = self.objects["prod", name]["spec"]["replicas"]
        return count

    def reasons(self) -> list[str]:
        return [event["reason"] for event in self.events]

    def _changed(self, at: tuple[str, str], kind: str) -> None:
        self.version += 1
        self.objects[at]["metadata"]["resourceVersion"] = str(self.version)
        for queue in self._watching:
            queue.put_nowait({"type": kind, "object": json.loads(json.dumps(self.objects[at]))})

    def _routes(self) -> web.Application:
        def lists(group: str, *resources: dict[str, Any]) -> Any:
            async def answer(_: web.Request) -> web.Response:
                return web.json_response(
                    {"kind": "APIResourceList", "groupVersion": group, "resources": list(resources)}
                )

            return answer

        async def core(_: web.Request) -> web.Response:
            return web.json_response({"kind": "APIVersions", "versions": ["v1"]})

        async def groups(_: web.Request) -> web.Response:
            version = {"groupVersion": "apps/v1", "version": "v1"}
            group = {"name": "apps", "versions": [version], "preferredVersion": version}
            return web.json_response({"kind": "APIGroupList", "groups": [group]})

        app = web.Application()
        one = "/apis/apps/v1/namespaces/{namespace}/deployments/{name}"
        app.add_routes(
            [
                web.get("/api", core),
                web.get("/apis", groups),
                web.get("/api/v1", lists("v1", EVENTS, NAMESPACES)),
                web.get("/apis/apps/v1", lists("apps/v1", DEPLOYMENTS)),
                web.get("/apis/apps/v1/deployments", self._list),
                web.get(one, self._get),
                web.patch(one, self._patch),
                web.patch(one + "/scale", self._patch),
                web.post("/api/v1/namespaces/{namespace}/events", self._event),
            ]
        )
        return app

    async def _list(self, request: web.Request) -> web.StreamResponse:
        if request.query.get("watch") != "true":
            items = list(self.objects.values())
            told = {"kind": "DeploymentList", "apiVersion": "apps/v1", "items": items}
            return web.json_response({**told, "metadata": {"resourceVersion": str(self.version)}})
        answer = web.StreamResponse(headers={"content-type": "application/json"})
        await answer.prepare(request)
        queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._watching.add(queue)
        try:
            while (event := await queue.get()) is not None:
                await answer.write(json.dumps(event).encode() + b"\n")
        except ConnectionError:
            pass
        finally:
            self._watching.discard(queue)
        return answer

    def _found(self, request: web.Request) -> tuple[str, str]:
        at = request.match_info["namespace"], request.match_info["name"]
        if request.method in self.broken:
            raise web.HTTPInternalServerError
        if at not in self.objects:
            raise web.HTTPNotFound(text=json.dumps({"kind": "Status", "code": 404}), content_type="application/json")
        return at

    async def _get(self, request: web.Request) -> web.Response:
        return web.json_response(self.objects[self._found(request)])

    async def _patch(self, request: web.Request) -> web.Response:
        at = self._found(request)
        self.patches.append((request.path, request.content_type))
        if "annotations" in self.broken and not request.path.endswith("/scale"):
            raise web.HTTPForbidden(text=json.dumps({"kind": "Status", "code": 403}), content_type="application/json")
        patch = await request.json()
        held, metadata = self.objects[at], patch.get("metadata", {})
        if metadata.get("resourceVersion") not in (None, held["metadata"]["resourceVersion"]):
            raise web.HTTPConflict(text=json.dumps({"kind": "Status", "code": 409}), content_type="application/json")
        if request.path.endswith("/scale"):
            held["spec"]["replicas"] = patch["spec"]["replicas"]
            self.scales.append(patch["spec"]["replicas"])
        for key, value in metadata.get("annotations", {}).items():
            held["metadata"]["annotations"][key] = value
        assert not set(patch) - {"metadata", "spec"}, patch
        assert "finalizers" not in metadata
        self._changed(at, "MODIFIED")
        return web.json_response(held)

    async def _event(self, request: web.Request) -> web.Response:
        event = await request.json()
        self.events.append(event)
        return web.json_response(event, status=201)


@contextlib.asynccontextmanager
async def api_server() -> AsyncIterator[ApiServer]:
    """Runs one on loopback."""
    server = ApiServer()
    runner = web.AppRunner(server._routes(), handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert runner.addresses
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        for queue in list(server._watching):
            queue.put_nowait(None)
        await runner.cleanup()
