"""What the routes tell OpenAPI beyond what FastAPI sees: bodies and answers in several media types, and problems.

The routes read their bodies themselves, from bytes, so the document is made here of the same schemas that they use.
"""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel

from service.api.request_head import JSON, MULTIPART, NPY, PICTURES
from service.api.schemas import ImageOptions, ImageRequest, Problem

_BINARY: Final[dict[str, Any]] = {"schema": {"type": "string", "format": "binary"}}

_PROBLEMS: Final = {
    400: "The body does not keep its own format, or a header cannot be understood.",
    401: "An API key is needed, where the service has keys.",
    404: "No such model, version, prior or label.",
    406: "Nothing of what Accept likes can be had here.",
    413: "The body, the batch or the pictures are larger than a setting allows.",
    415: "The body's media type is not taken here.",
    422: "Something in the request cannot be used; nothing of it was computed. `errors` says what and where.",
    500: "The service failed; the log has the details.",
    503: "The service holds as much as it may; Retry-After says when to come back.",
    504: "The deadline passed before the answer was ready.",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of a route."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": _PROBLEMS[status], "content": content} for status in statuses}


def answer(model: type[BaseModel], offered: tuple[str, ...], description: str) -> dict[int | str, dict[str, Any]]:
    """A route's good answer: `model` as JSON, or one of the other media types offered."""
    binary = {media_type: _BINARY for media_type in offered if media_type != JSON}
    return {200: {"model": model, "description": description, "content": binary}}


def json_body(form: type[BaseModel]) -> dict[str, Any]:
    """The request body of a route that takes JSON only."""
    return {"requestBody": {"required": True, "content": {JSON: {"schema": _schema(form)}}}}


def image_body() -> dict[str, Any]:
    """The request body of a route that takes images in every form; raw bodies put their options into the query."""
    options = _schema(ImageOptions)
    multipart = options | {
        "title": "ImageForm",
        "description": "Pictures as files, in the repeated field `images`.",
        "properties": {
            "images": {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1},
            **options["properties"],
        },
        "required": ["images"],
    }
    content = {JSON: {"schema": _schema(ImageRequest)}, MULTIPART: {"schema": multipart}}
    content |= dict.fromkeys((*PICTURES, NPY), _BINARY)
    parameters = [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": f"JSON and multipart can give it in the body instead. {schema['description']}",
            "schema": {key: value for key, value in schema.items() if key != "description"},
        }
        for name, schema in options["properties"].items()
    ]
    return {"parameters": parameters, "requestBody": {"required": True, "content": content}}


def add_problem_schema(document: dict[str, Any]) -> None:
    """Put the schemas that `problems` refers to into the document's components.

    And take FastAPI's own validation error out, which it foretells for every route with a parameter: none of ours can
    have it.
    """
    for path in document["paths"].values():
        for operation in path.values():
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)
    schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    document["components"]["schemas"] |= {**schema.pop("$defs"), "Problem": schema}


def _schema(form: type[BaseModel]) -> dict[str, Any]:
    """A request schema to stand in place; the request schemas nest no others."""
    return form.model_json_schema()
