"""The OpenAPI document, beyond what FastAPI finds out itself.

The routes read their bodies from bytes, so FastAPI sees neither their request bodies nor their headers. They are
declared here, with the schemas that the routes use. `complete` adds what is the same for many routes.
"""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service.api.answer_schemas import EncodeLine, Problem, ReconstructLine
from service.api.answers import RAW
from service.api.compression import CODINGS
from service.api.examples import form_examples, request_examples
from service.api.openai_schemas import EmbeddingsRequest, OpenAIError
from service.api.request_head import JSON, MULTIPART, NDJSON
from service.api.schemas import (
    NUMBERS,
    DecodeRequest,
    ImageOptions,
    ImageRequest,
    InterpolateOptions,
    InterpolateRequest,
    PictureOptions,
    ReconstructOptions,
    ReconstructRequest,
    SampleRequest,
    ScoreOptions,
    ScoreRequest,
    StreamLine,
    TraverseOptions,
    TraverseRequest,
)
from service.contract import CARD_FILE
from service.inference.registry import Registry

Document = dict[str, Any]

# The JSON bodies that can hold pictures, with their options.
_OPTIONS: Final[dict[type[BaseModel], type[PictureOptions]]] = {
    ImageRequest: ImageOptions,
    ReconstructRequest: ReconstructOptions,
    ScoreRequest: ScoreOptions,
    InterpolateRequest: InterpolateOptions,
    TraverseRequest: TraverseOptions,
}

DESCRIPTION: Final = """\
Images and latents are sent and answered in batches. Answers are JSON, or what the `Accept` header asks for. Errors are
problems as RFC 9457 defines them.

A body may be compressed by gzip, deflate or zstd, or by two of them one after the other, as `Content-Encoding` says; a
stream by one. The limit on a body holds for what comes out. Long answers are compressed if `Accept-Encoding` names one
of these.

If the service has API keys, the routes for images, latents and models need one, as `Authorization: Bearer KEY` or as
`X-API-Key: KEY`.
"""

TAGS: Final = [
    {"name": "verbs", "description": "Images to latents and back."},
    {"name": "models", "description": "What is served."},
    {"name": "openai", "description": "For clients of OpenAI's API."},
    {"name": "probes", "description": "For orchestrators and Prometheus. They need no key."},
]

_PROBLEMS: Final = {
    400: "The body breaks the rules of its media type or coding, or a header has a wrong syntax.",
    401: "The service has API keys, and the request has none of them.",
    404: "There is no such model, version, prior or label, or the bundle lacks what the request needs.",
    406: "The route has no answer of a type that `Accept` names, or in a coding that `Accept-Encoding` allows.",
    413: "The body, the batch or the pictures are larger than a setting allows.",
    415: "The route takes no bodies of this media type, or in this coding; `Accept-Encoding` has those it takes.",
    422: "A value in the request cannot be used. Nothing of the request was computed. `errors` says what and where.",
    500: "The service failed. Its log has the details.",
    503: "The service has no room for another request now. `Retry-After` says when to try again.",
    504: "The deadline passed before the answer was ready. `X-Request-Timeout-Ms` in a request lowers it.",
}

_KEY_SCHEMES: Final = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer KEY`"},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "`X-API-Key: KEY`"},
}

# Either of them; or none, in a service without keys.
_SECURITY: Final[list[dict[str, list[str]]]] = [{"bearer": []}, {"apiKey": []}, {}]


def _header(description: str, kind: str = "string", *, always: bool = False, **schema: Any) -> Document:
    """A header of answers. `kind` is the type of its value, `always` whether every answer that names it has it."""
    return {"description": description, "required": always, "schema": {"type": kind, **schema}}


_HEADERS: Final = {
    "X-Request-ID": _header("The request's own X-Request-ID if it is safe to repeat, else a new one.", always=True),
    "Server-Timing": _header(
        "Milliseconds of waiting and of computing.", always=True, examples=["queue;dur=0.041, compute;dur=0.310"]
    ),
    "X-Model": _header("The model that answered, name@version. Not with JSON, which says it itself."),
    "X-Seed": _header("The seed of the draw, if there was one. Not with JSON.", "integer", minimum=0),
    "X-Prior": _header("The prior that was drawn from. Not with JSON.", enum=["normal", "aggregate"]),
    "X-Temperature": _header("The temperature of the draw. Not with JSON.", "number", minimum=0),
    "X-Sharpness": _header("How much the images were sharpened. Not with JSON.", "number", minimum=1),
    "X-Dims": _header("The latents that were changed, row by row. Not with JSON.", pattern="^[0-9]+(,[0-9]+)*$"),
    "X-Array-Dtype": _header(f"NumPy's name of the numbers' type. Only with {RAW}.", enum=["float32", "uint8"]),
    "X-Array-Shape": _header(f"The array's shape, with commas. Only with {RAW}.", pattern="^[0-9]+(,[0-9]+)*$"),
    "X-Accel-Buffering": _header("A proxy passes a stream on as it comes. Only with NDJSON.", const="no"),
    "ETag": _header("The content's entity tag. A request with it in If-None-Match is answered with 304.", always=True),
    "X-Content-Type-Options": _header("A browser does not guess another media type.", always=True, const="nosniff"),
    "Content-Encoding": _header("How a long answer is compressed.", enum=CODINGS),
    "Vary": _header("Of an answer that is long enough to be compressed: Accept-Encoding."),
    "Accept-Encoding": _header("The codings of bodies, if the request's had another one."),
    "Retry-After": _header("Seconds to wait before the next try.", "integer", always=True, minimum=1),
    "WWW-Authenticate": _header("How to send a key.", always=True, const="Bearer"),
}

_ALWAYS: Final = ("X-Request-ID", "Server-Timing")

# Headers of requests to the verbs.
_BODY_CODING: Final = {
    "name": "Content-Encoding",
    "in": "header",
    "required": False,
    "description": f"How the body is compressed: {', '.join(CODINGS)}; or two of them, in the order of their use.",
    "schema": {"type": "string", "examples": ["gzip"]},
}
_ANSWER_CODINGS: Final = {
    "name": "Accept-Encoding",
    "in": "header",
    "required": False,
    "description": f"How a long answer may be compressed: {', '.join(CODINGS)}, with weights (RFC 9110, 12.5.3).",
    "schema": {"type": "string", "examples": ["zstd, gzip;q=0.5"]},
}


def problems(*statuses: int) -> dict[int | str, Document]:
    """The error answers of a route."""
    content = {"application/problem+json": {"schema": _reference("schemas", "Problem")}}
    found: dict[int | str, Document] = {
        status: {"description": _PROBLEMS[status], "content": content} for status in statuses
    }
    for status, header in ((401, "WWW-Authenticate"), (415, "Accept-Encoding"), (503, "Retry-After")):
        if status in found:
            found[status]["headers"] = headers(header)
    return found


def verb_answers(
    model: type[BaseModel],
    offered: tuple[str, ...],
    description: str,
    *more_headers: str,
    line: type[BaseModel] | None = None,
) -> dict[int | str, Document]:
    """The answers of a verb: `model` as JSON or one of the other media types offered, and every problem.

    `more_headers` are headers of some of the other media types, beside those that every verb has. `line` is what each
    line of the answer to a stream has.
    """
    content = {media_type: {} if media_type == JSON else _binary(media_type) for media_type in offered}
    found = headers("X-Model", *more_headers, "X-Array-Dtype", "X-Array-Shape")
    if line is not None:
        content[NDJSON] = _lines(line)
        found |= headers("X-Accel-Buffering")
    good = {"model": model, "description": description, "content": content, "headers": found}
    return {200: good} | problems(*_PROBLEMS)


def tagged(*statuses: int) -> dict[int | str, Document]:
    """The answers of a route whose content has an entity tag: 200, 304, and these problems."""
    found = problems(*statuses)
    found[200] = {"headers": headers("ETag")}
    found[304] = {
        "description": "The client has it already: `If-None-Match` names its tag.",
        "headers": headers("ETag"),
    }
    return found


def file_answers(*media_types: str) -> dict[int | str, Document]:
    """The answers of a route that serves files, of these media types among others."""
    found = tagged(401, 404, 413, 503, 504)
    content = {
        media_type: {"schema": {"type": "string"}} if media_type.startswith("text/") else _binary(media_type)
        for media_type in media_types
    }
    found[200] |= {"description": "The file. Its suffix says of which media type it is.", "content": content}
    for status in (200, 304):
        found[status]["headers"] = headers("ETag", "X-Content-Type-Options")
    return found


def choice(name: str, values: tuple[str, ...], description: str) -> Document:
    """A parameter of the query that is one of these values, by default the first."""
    schema = {"type": "string", "enum": list(values)}
    text = f"{description} Default: {values[0]}."
    return {"parameters": [{"name": name, "in": "query", "required": False, "description": text, "schema": schema}]}


def openai_errors(*statuses: int) -> dict[int | str, Document]:
    """The error answers of a route of OpenAI's API."""
    found = problems(*statuses)
    for response in found.values():
        response["content"] = {JSON: {"schema": _reference("schemas", OpenAIError.__name__)}}
    return found


def openai_answers(model: type[BaseModel], description: str) -> dict[int | str, Document]:
    """The answers of a verb that speaks as OpenAI's API does: `model` as JSON, and every error."""
    found = openai_errors(*(status for status in _PROBLEMS if status != 422))
    found[200] = {"model": model, "description": description}
    return found


def headers(*names: str) -> Document:
    """The headers of an answer."""
    return {name: _reference("headers", name) for name in names}


def json_body(form: type[BaseModel]) -> Document:
    """The request body of a route that takes JSON only."""
    return {"requestBody": {"required": True, "content": {JSON: {"schema": _reference("schemas", form.__name__)}}}}


def image_body(
    takes: tuple[str, ...], request: type[BaseModel], options: type[PictureOptions], *, streams: bool = False
) -> Document:
    """The request body of a route that `takes` images in these media types, and its options in the query.

    `streams`: it also takes them line by line.
    """
    content = {media_type: _binary(media_type) for media_type in takes}
    if streams:
        content[NDJSON] = _lines(StreamLine)
    content[JSON] = {"schema": _reference("schemas", request.__name__)}
    content[MULTIPART] = {"schema": _reference("schemas", _form_name(request))}
    parameters = _query(options, "JSON and multipart can give it in the body instead.")
    return {"parameters": parameters, "requestBody": {"required": True, "content": content}}


def latent_body(takes: tuple[str, ...], request: type[BaseModel], options: type[BaseModel]) -> Document:
    """The request body of a route that `takes` latents in these media types, and its options in the query."""
    content = {media_type: _binary(media_type) for media_type in takes}
    content[JSON] = {"schema": _reference("schemas", request.__name__)}
    parameters = _query(options, "JSON can give it in the body instead.")
    return {"parameters": parameters, "requestBody": {"required": True, "content": content}}


def _query(options: type[BaseModel], elsewhere: str) -> list[Document]:
    """The parameters of a query with these options; `elsewhere` says where else a request can give them."""
    parameters = []
    for name, schema in _options(options, null=False).items():
        description = f"{schema.pop('description')} {elsewhere}"
        parameters.append(
            {"name": name, "in": "query", "required": False, "description": description, "schema": schema}
        )
    return parameters


def complete(document: Document, registry: Registry) -> None:
    """Add to FastAPI's document the components that routes refer to, and what is the same for many routes.

    The examples are for the models of `registry`. FastAPI expects a validation error of its own from each route with a
    parameter; none of ours can answer it, so it is removed.
    """
    default, examples = registry.default, request_examples(registry)
    for path in document["paths"].values():
        for operation in path.values():
            _complete_operation(operation, examples)
    known = {"name": default.autoencoder.contract.name, "file": CARD_FILE}
    for path in ("/models/{name}", "/models/{name}/files/{file}", "/v1/models/{name}"):
        for parameter in document["paths"][path]["get"]["parameters"]:
            parameter["example"] = known[parameter["name"]]
    components = document["components"]
    for unused in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(unused, None)
    components["schemas"] |= _schemas()
    # Swagger UI fills a form with these, and with "string" or the first choice where there are none.
    for request in _OPTIONS:
        form = components["schemas"][_form_name(request)]["properties"]
        for field, example in form_examples(default).items():
            if field in form:
                form[field]["examples"] = [example]
    components["headers"] = _HEADERS
    components["securitySchemes"] = _KEY_SCHEMES


def _complete_operation(operation: Document, examples: Document) -> None:
    responses = operation["responses"]
    if "HTTPValidationError" in str(responses.get("422")):
        del responses["422"]
    if "401" in responses:
        operation["security"] = _SECURITY
    for response in responses.values():
        response["headers"] = headers(*_ALWAYS) | response.get("headers", {})
    if "415" in responses:  # a verb
        operation["parameters"] = [*operation.get("parameters", []), _BODY_CODING, _ANSWER_CODINGS]
    if "content" in responses["200"]:
        responses["200"]["headers"] |= headers("Content-Encoding", "Vary")
    for content in operation.get("requestBody", {}).get("content", {}).values():
        name = content["schema"].get("$ref", "").rpartition("/")[2]
        if examples.get(name):
            content["examples"] = examples[name]


def _schemas() -> Document:
    """The schemas that FastAPI does not see: of requests and of problems, with those inside them."""
    models: list[type[BaseModel]] = [*_OPTIONS, SampleRequest, DecodeRequest, EmbeddingsRequest, OpenAIError, Problem]
    models += [StreamLine, EncodeLine, ReconstructLine]
    _, found = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    schemas: Document = found["$defs"]
    for schema in schemas.values():
        for field in schema["properties"].values():
            if field.get("default", "") is None:  # no value, and null says the same
                del field["default"]
    for request, options in _OPTIONS.items():
        schemas[request.__name__]["properties"] |= _options(options, null=True)
        schemas[_form_name(request)] = {
            "title": _form_name(request),
            "description": "Pictures as files, in the repeated field `images`.",
            "type": "object",
            "properties": {
                "images": {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1},
                **_options(options, null=False),
            },
            "required": ["images"],
            "additionalProperties": False,
        }
    return schemas


def _form_name(request: type[BaseModel]) -> str:
    """The name of the schema of a multipart body with the options of this JSON body."""
    return request.__name__.replace("Request", "Form")


def _options(options: type[BaseModel], *, null: bool) -> Document:
    """The schemas of options. Only JSON has `null` and lists; a query and a form have text.

    Their defaults are words of the description. With the keyword `default` many clients send the default when nothing
    is given, in the body as well as in the query, where it then contradicts the other's value.
    """
    found = {}
    for name, schema in options.model_json_schema()["properties"].items():
        if (default := schema.pop("default", None)) is not None:
            schema["description"] += f" Default: {str(default).lower()}."
        if not null and "anyOf" in schema:
            schema |= schema.pop("anyOf")[0]
        if not null and schema["type"] == "array":
            description = f"{schema['description']} With commas between them."
            schema = {"title": schema["title"], "description": description, "type": "string", "pattern": f"^{NUMBERS}$"}
        found[name] = schema
    return found


def _binary(media_type: str) -> Document:
    """Bytes of a media type. `format` is for tools that look for it; JSON Schema's own word is the other one."""
    return {"schema": {"type": "string", "format": "binary", "contentMediaType": media_type}}


def _lines(line: type[BaseModel]) -> Document:
    """Newline-delimited JSON; JSON Schema has no word for the schema of a line, so that is the content's."""
    found = _binary(NDJSON)
    found["schema"]["contentSchema"] = _reference("schemas", line.__name__)
    return found


def _reference(kind: str, name: str) -> dict[str, str]:
    return {"$ref": f"#/components/{kind}/{name}"}
