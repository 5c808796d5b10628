"""The control socket as an OpenAPI 3.1 document, made from the table of routes and the types of the messages."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from ocelot import __version__
from ocelot.wire import protocol
from ocelot.wire.routes import NDJSON, ROUTES, Route


def document() -> dict[str, Any]:
    """The whole document, as plain objects."""
    types = list(
        {id(kind): kind for route in ROUTES for kind in (route.reply, route.request) if kind is not None}.values()
    )
    types += [protocol.Problem]
    types += [
        protocol.SessionSignal,
        protocol.TerminalInput,
        protocol.TerminalSize,
    ]  # what clients say after an upgrade
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    by_type = {id(kind): schema for kind, schema in zip(types, schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, by_type)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ocelot",
            "version": __version__,
            "summary": "Look at a running ocelot, and tell it what to do.",
            "description": "HTTP/1.1 on a unix socket. Who may do what is decided by the credentials of the peer; "
            "x-role is the role that an operation asks for.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [
            {"url": "http://ocelot", "description": "any host name: curl --unix-socket PATH http://ocelot/..."}
        ],
        "paths": paths,
        "components": {"schemas": components},
    }


def _operation(route: Route, by_type: dict[int, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.operation,
        "summary": route.summary,
        "x-role": route.role.value if route.role is not None else None,
        "parameters": _parameters(route),
        "responses": {
            str(route.status): {"description": "Done.", "content": _content(route, by_type)},
            "default": {
                "description": "It could not be done.",
                "content": {"application/json": {"schema": by_type[id(protocol.Problem)]}},
            },
        },
    }
    if route.request is not None:
        operation["requestBody"] = {
            "required": False,
            "content": {"application/json": {"schema": by_type[id(route.request)]}},
        }
    return operation


def _content(route: Route, by_type: dict[int, Any]) -> dict[str, Any]:
    """Only JSON has a schema; the others are text."""
    content: dict[str, Any] = {}
    for media in route.media:
        structured = media in ("application/json", NDJSON)
        schema = by_type.get(id(route.reply), {"type": "object"}) if structured else {"type": "string"}
        content[media] = {"schema": schema}
    return content


def _parameters(route: Route) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{(\w+)\}", route.path)
    ]
    for query in route.query:
        single = {"type": query.type}
        schema = {"type": "array", "items": single} if query.many else single
        found.append({"name": query.name, "in": "query", "description": query.summary, "schema": schema})
    return found
