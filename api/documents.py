"""How the operations are described in OpenAPI: bodies, answers, problems, headers."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api import examples
from api.problems import MEDIA_TYPE
from api.schemas import NotReadyBody, ProblemBody
from api.uploads import FILM_PART, FORM, JSON, LATERAL_PART, PRIOR_PART, RAW_FILMS
from knowledge_base.findings import FINDINGS
from rag_service.explain_request import EXPLAINED, Method
from rag_service.requests import MAX_ALPHA, MAX_LIMIT, MAX_QUESTIONS, MAX_TEXT, REGION, Format, Language
from rag_service.verify_request import KINDS, MAX_CITATIONS, MAX_REPORT, MAX_SENTENCE, MAX_SENTENCES

_SENTENCE: Final = {"type": "string", "maxLength": MAX_SENTENCE}
_CITING: Final = {"type": "object", "required": ["text"]}
_CITED: Final = {
    "type": "array",
    "maxItems": MAX_CITATIONS,
    "items": {
        "type": "object",
        "required": ["kind", "id", "quote", "span"],
        "properties": {
            "kind": {"type": "string", "enum": list(KINDS)},
            "id": {"type": "string", "maxLength": 64},
            "quote": {"type": "string", "maxLength": MAX_REPORT},
            "span": {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 2, "maxItems": 2},
        },
    },
}
_TEXT: Final = {"type": "string", "maxLength": MAX_TEXT}
_QUESTIONS: Final = f"May be given several times; at most {MAX_QUESTIONS} prompts and boxes in all."
_FILM: Final = {"type": "string", "format": "binary", "description": "One DICOM, PNG or JPEG film."}
_FLAG: Final = {"type": "string", "enum": ["true", "false"], "default": "false"}
_RETRY_AFTER: Final = {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}
_REQUEST_ID: Final = {
    "description": "The request's id: the one sent, or a new one.",
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
}
_MEANING: Final = {
    401: "No key, or not the right one.",
    404: "No such record, or none this caller may see.",
    410: "The case was withdrawn: a report that cites it may say so.",
    413: "The film is over a limit on bytes, pixels, memory or time.",
    415: "Not a media type, an image or a film that is accepted.",
    422: "The film or the request is not acceptable.",
    429: "The gate is full.",
    500: "The service failed, or a stored record is damaged.",
    503: "Still starting, past the deadline, or without its store or models; `code` says which.",
}
DRAFT_BODY: Final[dict[str, Any]] = {
    "required": True,
    "content": {
        FORM: {
            "schema": {
                "type": "object",
                "required": [FILM_PART],
                "additionalProperties": False,
                "properties": {
                    FILM_PART: _FILM,
                    LATERAL_PART: {**_FILM, "description": "The lateral film of the same study, in the same formats."},
                    PRIOR_PART: {**_FILM, "description": "An earlier frontal film of the same patient."},
                    "prior_report": {**_TEXT, "description": "That film's report; used for nothing without the film."},
                    "prompt": {**_TEXT, "description": f"What the reader asks, a question a line. {_QUESTIONS}"},
                    "box": {
                        "type": "string",
                        "description": "A place asked about: x_min,y_min,x_max,y_max, fractions of the film; several with ; "
                        f"between them. {_QUESTIONS}",
                    },
                    "indication": {**_TEXT, "description": "The clinical indication."},
                    "technique": {**_TEXT, "description": "How the films were taken."},
                    "comparison": {**_TEXT, "description": "What the study is compared with."},
                    "language": {"type": "string", "enum": list(Language), "default": "en"},
                    "format": {
                        "type": "string",
                        "enum": ["json", *Format],
                        "default": "json",
                        "description": "Another project's way of writing a report; an abstention is refused in those.",
                    },
                    "patient": {**_TEXT, "description": "SOURCE:PATIENT, whose own cases are no evidence; or PATIENT."},
                    "prior_patient": {**_TEXT, "description": "Whose the prior film is; another patient's is refused."},
                },
            },
            "example": {
                "film": "(bytes of a film)",
                "lateral": "(bytes of a film)",
                "prior": "(bytes of a film)",
                "prior_report": "Small right pleural effusion.",
                "prompt": "Is there an effusion?",
                "box": "0.05,0.6,0.45,0.95",
                "indication": "Dyspnoea.",
                "technique": "PA and lateral views.",
                "comparison": "Film of last week.",
                "language": "en",
            },
        },
        **{kind: {"schema": {"type": "string", "format": "binary"}} for kind in RAW_FILMS},
    },
}
SEARCH_BODY: Final[dict[str, Any]] = {
    "required": True,
    "content": {
        FORM: {
            "schema": {
                "type": "object",
                "additionalProperties": False,
                "anyOf": [{"required": [FILM_PART]}, {"required": ["text"]}],
                "properties": {
                    FILM_PART: _FILM,
                    "text": {**_TEXT, "description": "Words to search for."},
                    "finding": {"type": "string", "enum": list(FINDINGS), "description": "Keep to cases stating it."},
                    "limit": {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": 10},
                    "region": {
                        "type": "string",
                        "pattern": REGION,
                        "description": "A box on the film whose like is looked for: x_min,y_min,x_max,y_max, fractions of it.",
                    },
                    "include_same": {**_FLAG, "description": "Whether the film itself may be an answer."},
                    "diverse": {**_FLAG, "description": "Whether to prefer cases that are unlike each other."},
                },
            },
            "example": {"text": "small right effusion", "finding": "Pleural Effusion", "limit": 5},
        }
    },
}

QUERY_BODY: Final[dict[str, Any]] = {
    "required": True,
    "content": {
        FORM: {
            "schema": {
                "type": "object",
                "required": [FILM_PART],
                "additionalProperties": False,
                "anyOf": [{"required": ["prompt"]}, {"required": ["box"]}],
                "properties": {
                    FILM_PART: _FILM,
                    "prompt": {**_TEXT, "description": "What is asked, in English, Spanish or Japanese."},
                    "box": {
                        "type": "string",
                        "pattern": REGION,
                        "description": "The place asked about: x_min,y_min,x_max,y_max, fractions of the film.",
                    },
                    "language": {"type": "string", "enum": list(Language), "default": "en"},
                    "patient": {**_TEXT, "description": "PATIENT or SOURCE:PATIENT, whose own cases are no evidence."},
                },
            },
            "example": {"film": "(bytes of a film)", "prompt": "Is there a right effusion?", "language": "en"},
        }
    },
}
STEER_BODY: Final[dict[str, Any]] = {
    "required": True,
    "content": {
        FORM: {
            "schema": {
                "type": "object",
                "required": [FILM_PART, "concept"],
                "additionalProperties": False,
                "properties": {
                    FILM_PART: _FILM,
                    "concept": {"type": "integer", "minimum": 0, "description": "Index of a concept, as in a draft."},
                    "alpha": {
                        "type": "number",
                        "minimum": -MAX_ALPHA,
                        "maximum": MAX_ALPHA,
                        "default": 1,
                        "description": "How much is added: 1 is as much as films that show the concept carry.",
                    },
                },
            },
            "example": {"film": "(bytes of a film)", "concept": 17, "alpha": 1.5},
        }
    },
}
EXPLAIN_BODY: Final[dict[str, Any]] = {
    "required": True,
    "content": {
        FORM: {
            "schema": {
                "type": "object",
                "required": [FILM_PART, "finding"],
                "additionalProperties": False,
                "properties": {
                    FILM_PART: _FILM,
                    "finding": {"type": "string", "enum": list(EXPLAINED), "description": "What is to be explained."},
                    "methods": {
                        "type": "string",
                        "description": f"Of {', '.join(Method)}, with commas between them; all that the model has by default.",
                    },
                    "picture": {**_FLAG, "description": "Whether the maps come as a PNG too, side by side."},
                },
            },
            "example": {"film": "(bytes of a film)", "finding": "Pleural Effusion", "methods": "grad_cam,shapley"},
        }
    },
}
VERIFY_BODY: Final[dict[str, Any]] = {
    "required": True,
    "content": {
        JSON: {
            "schema": {
                "type": "object",
                "description": "One of `text`, `sentences` and `findings` (a draft as it was answered).",
                "oneOf": [{"required": ["text"]}, {"required": ["sentences"]}, {"required": ["findings"]}],
                "properties": {
                    "text": {"type": "string", "maxLength": MAX_REPORT, "description": "A report."},
                    "sentences": {
                        "type": "array",
                        "maxItems": MAX_SENTENCES,
                        "items": {
                            "oneOf": [_SENTENCE, {**_CITING, "properties": {"text": _SENTENCE, "citations": _CITED}}]
                        },
                    },
                    "findings": {
                        "type": "array",
                        "maxItems": MAX_SENTENCES,
                        "items": {"type": "object", "properties": {"sentence": _SENTENCE, "citations": _CITED}},
                    },
                    "impression": {"type": ["string", "null"], "maxLength": MAX_REPORT},
                    "prior": {"type": "boolean", "default": False, "description": "Whether there is an earlier film."},
                },
            },
            "example": examples.TO_VERIFY,
        }
    },
}


def answer(description: str, media_type: str = "application/json") -> dict[str, Any]:
    """A successful answer; `describe` adds its example."""
    return {"description": description, "headers": {"X-Request-ID": _REQUEST_ID}, "content": {media_type: {}}}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The problems an operation may answer with."""
    return {status: _problem(status) for status in statuses}


def not_ready() -> dict[str, Any]:
    """The problem of /readyz, which lists the components."""
    content = {MEDIA_TYPE: {"schema": _reference(NotReadyBody.__name__), "example": examples.NOT_READY}}
    return {"description": "Not ready to work.", "headers": {"X-Request-ID": _REQUEST_ID}, "content": content}


def describe(app: FastAPI) -> None:
    """Make `app.openapi` add what FastAPI leaves out: the problem schemas, and the nulls of the examples."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
                tags=app.openapi_tags,
            )
            schemas = schema.setdefault("components", {}).setdefault("schemas", {})
            for model in (ProblemBody, NotReadyBody):
                schemas[model.__name__] = model.model_json_schema()
            for path, example in examples.ANSWERS.items():
                for operation in schema["paths"][path].values():
                    for content in operation["responses"]["200"]["content"].values():
                        content["example"] = example
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _problem(status: int) -> dict[str, Any]:
    headers: dict[str, Any] = {"X-Request-ID": _REQUEST_ID}
    if status in {429, 503}:
        headers["Retry-After"] = _RETRY_AFTER
    if status == 401:
        headers["WWW-Authenticate"] = {"description": "The scheme to use.", "schema": {"type": "string"}}
    content = {MEDIA_TYPE: {"schema": _reference(ProblemBody.__name__), "example": examples.PROBLEMS[status]}}
    return {"description": _MEANING[status], "headers": headers, "content": content}


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
