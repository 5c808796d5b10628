"""The OpenAPI document against the specification: the schema of the OpenAPI Initiative, and what a schema cannot say.

``openapi-3.1-schema.json`` is https://spec.openapis.org/oas/3.1/schema/2022-10-07 as it is published (Apache-2.0).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from ocelot.client import Client
from ocelot.wire import protocol
from ocelot.wire.openapi import document
from ocelot.wire.routes import ROUTES

SPEC = document()
OPERATIONS = [(path, method, operation) for path, item in SPEC["paths"].items() for method, operation in item.items()]


def schema() -> Any:
    return json.loads((Path(__file__).parent / "openapi-3.1-schema.json").read_text())


def test_it_is_what_the_specification_asks_for() -> None:
    jsonschema.Draft202012Validator(schema()).validate(json.loads(json.dumps(SPEC)))


def test_that_can_fail() -> None:
    broken = json.loads(json.dumps(SPEC))
    del broken["paths"]["/v1/status"]["get"]["responses"]["200"]["description"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema()).validate(broken)


def test_every_schema_is_one_and_every_reference_leads_somewhere() -> None:
    for name, component in SPEC["components"]["schemas"].items():
        jsonschema.Draft202012Validator.check_schema(component)
        assert component.get("properties") or component.get("description"), name
    for reference in _references(SPEC):
        assert reference.removeprefix("#/components/schemas/") in SPEC["components"]["schemas"], reference


def test_every_route_with_its_request_and_its_answers_is_there() -> None:
    assert {(path, method.upper()) for path, method, _ in OPERATIONS} == {(r.path, r.method) for r in ROUTES}
    for route in ROUTES:
        operation = SPEC["paths"][route.path][route.method.lower()]
        assert operation["operationId"] == route.operation
        assert set(operation["responses"]) == {str(route.status), "default"}
        assert set(operation["responses"][str(route.status)]["content"]) == set(route.media)
        assert ("requestBody" in operation) == (route.request is not None)
        given = {(each["name"], each["in"]) for each in operation["parameters"]}
        path = {(name, "path") for name in re.findall(r"\{(\w+)\}", route.path)}
        assert given == path | {(each.name, "query") for each in route.query}


def test_names_of_operations_are_unique() -> None:
    names = [operation["operationId"] for _, _, operation in OPERATIONS]
    assert len(set(names)) == len(names)


def test_every_message_of_the_protocol_is_used_or_known_not_to_be() -> None:
    """What nobody answers with must not linger."""
    inside = {"ExitReport"}  # told to the host
    messages = {
        name
        for name, kind in vars(protocol).items()
        if isinstance(kind, type) and issubclass(kind, protocol.Wire) and kind is not protocol.Wire
    }
    assert messages - set(SPEC["components"]["schemas"]) == inside


def test_the_client_has_a_method_for_every_operation() -> None:
    """``fooOne`` is ``foo`` with one name; the document itself and the list of processes it has no use for."""
    other = {"logs": "follow", "events": "events", "exec": "run", "reload": "tell_to_reload"}
    other |= {"reloadFile": "reload", "processes": "status", "terminal": "attach"}
    for route in ROUTES:
        operation = route.operation.removesuffix("One")
        assert operation == "openapi" or hasattr(Client, other.get(operation, operation)), operation


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)
