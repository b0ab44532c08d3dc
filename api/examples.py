"""Invented values for the OpenAPI examples; a test validates each against its schema."""

from __future__ import annotations

from typing import Any, Final

from api.errors import DeadlineExceeded, Unauthorised
from rag_service.errors import BadRequest, Busy, CaseWithdrawn, FilmTooLarge, NotAnImage, NotFound, ServiceError

REQUEST_ID: Final = "7d1f0c52a9e84b6f"
CASE_ID: Final = "9b6b5a52-6d0f-5c0e-8a53-0f4a0c7f2f11"
_TEXT: Final = "There is a small right pleural effusion. The heart is normal in size."
_EFFUSION: Final = _TEXT[:40]
_SIMILAR: Final[dict[str, Any]] = {
    "id": CASE_ID,
    "score": 0.048916,
    "box_overlap": 0.71,
    "labels": ["Pleural Effusion"],
    "excerpt": _EFFUSION,
    "film_url": None,
    "shared_concepts": ["pleural effusion, right"],
    "sentence": None,
}
_ANSWERING: Final[dict[str, Any]] = {
    **_SIMILAR,
    "sentence": {
        "quote": _EFFUSION,
        "span": [0, 40],
        "finding": "Pleural Effusion",
        "polarity": "positive",
        "laterality": "right",
        "location": None,
    },
}
_CONCEPT: Final[dict[str, Any]] = {"name": "pleural effusion, right", "activation": 3.4, "index": 17}
_PROVENANCE: Final[dict[str, Any]] = {
    "model": "boxlatent-cxr@1:4f0c9d",
    "preprocessing": "square-224@1",
    "index": "cases@3:81aa20",
    "knowledge_base": "starter@2026-11:c01d77",
    "thresholds": "isotonic@1:0be4d2",
    "seed": 7,
    "film": "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef",
    "lateral": None,
    "view_fusion": None,
    "concepts": "2f61c0d95b7e48a31d06f2b94c8e57a0139bd6e4f8a2c75310be94d7f6a8c1e2",
    "reranker": "9c41e07b52d8f6a3e1b04c7d95a2f8603e7bd1c4a9f05862d3e7b1904c5f8a26",
    "prior": None,
    "change": None,
    "queries": "7be2d90a4c51f8e3260b9d17a5c84f3e91d06b72e8a3f5c4071d9be6283a4f50",
    "writer": "evidence-decoder@1-6f0d2a71",
    "segmenter": "thorax-unet@1-5b1f03c2",
}
_FINDING: Final[dict[str, Any]] = {
    "id": "f1",
    "label": "Pleural Effusion",
    "sentence": "Small right pleural effusion, unchanged from the prior film.",
    "polarity": "positive",
    "laterality": "right",
    "location": "costophrenic angle",
    "severity": "small",
    "progression": "stable",
    "boxes": [{"x_min": 0.08, "y_min": 0.62, "x_max": 0.41, "y_max": 0.9, "weight": 0.88}],
    "confidence": {"p": 0.83, "interval": [0.71, 0.91], "tier": "high", "set": ["present"]},
    "uncertainty": {"radius": 0.36, "top_axes": [{"axis": 12, "name": "Edema", "r": 0.92}], "bl_tta_sd": 0.04},
    "citations": [
        {"kind": "case", "id": CASE_ID, "quote": _EFFUSION, "span": [0, 40], "similarity": 0.87, "entails": True}
    ],
    "counter_evidence": [
        {
            "id": "2c1e0a5b-77b4-5f0d-9d43-3a1b5d8c6e20",
            "similarity": 0.61,
            "quote": "No pleural effusion.",
            "span": [31, 51],
            "separating_axes": [{"axis": 40, "name": "Pleural Effusion (+)", "difference": 0.84, "logit": 1.2}],
        }
    ],
    "concepts": [_CONCEPT],
    "source": "case",
    "hedged": [],
    "guidance": [],
    "sentence_en": "Small right pleural effusion, unchanged from the prior film.",
    "comparison": {
        "state": "stable",
        "change": 0.04,
        "prior_p": 0.81,
        "prior_boxes": [{"x_min": 0.09, "y_min": 0.63, "x_max": 0.4, "y_max": 0.9, "weight": 1.0}],
        "prior_quote": None,
    },
    "prompts": ["Is there an effusion?"],
}
DRAFT: Final[dict[str, Any]] = {
    "status": "draft",
    "abstain_reasons": [],
    "findings": [_FINDING],
    "impression": "Small right pleural effusion, unchanged from the prior film.",
    "not_assessed": [{"label": "Fracture", "reason": "too_few_cases_to_calibrate", "possible": False, "p": 0.03}],
    "similar_cases": [_SIMILAR],
    "out_of_distribution": {
        "score": -5.2,
        "threshold": 3.4,
        "scores": {"radius": -2.7, "knn": 0.6, "mahalanobis": 0.67, "energy": -2.2, "presentation": -9.1},
    },
    "checks": {"views": ["frontal", "lateral"], "every_sentence_cited": True, "near_duplicates_excluded": 0},
    "coverage": [
        {"label": "Pneumothorax", "cases": 3, "warning": "Only 3 cases of Pneumothorax here."},
        {"label": "Pleural Effusion", "cases": 412, "warning": None},
    ],
    "provenance": {
        **_PROVENANCE,
        "lateral": "0b1f6d1f2c0f5c7f3a6b1c4de6a0a58d2d0a4a5a1d9c74f7a7e1f3f6a9b2c8d3",
        "view_fusion": "c4e2b8a1907d5f3366a0b1d2e3f40516273849a5b6c7d8e9fa0b1c2d3e4f5061",
        "prior": "a41d0e6b7c9285f3d16e0b94a7c3f8520e9d6b1a4f7c3825b0e6d9a1f4c7b382",
        "change": "57facee3466ee1d5fdd296d510e18c7b6165ec8f848a1a1a06182deb022c3a7b",
    },
    "concepts": [_CONCEPT],
    "answers": [
        {
            "prompt": "Is there an effusion?",
            "box": None,
            "label": "Pleural Effusion",
            "labels": ["Pleural Effusion"],
            "p": 0.83,
            "boxes": [{"x_min": 0.08, "y_min": 0.62, "x_max": 0.41, "y_max": 0.9, "weight": 0.88}],
            "finding": "f1",
            "polarity": "positive",
            "sentence": "Small right pleural effusion, unchanged from the prior film.",
            "sentence_en": "Small right pleural effusion, unchanged from the prior film.",
            "citations": [],
            "reason": None,
        }
    ],
    "language": "en",
    "impression_en": "Small right pleural effusion, unchanged from the prior film.",
    "measurements": [
        {
            "name": "cardiothoracic_ratio",
            "value": 0.46,
            "unit": "ratio",
            "segments": [
                {"name": "heart", "x_min": 0.36, "x_max": 0.75, "y": 0.61},
                {"name": "thorax", "x_min": 0.08, "x_max": 0.93, "y": 0.74},
            ],
            "reason": None,
        }
    ],
}
SEARCH: Final[dict[str, Any]] = {
    "cases": [_ANSWERING],
    "passages": [
        {
            "kind": "guideline",
            "id": "f0a4c9de-51bb-5d0c-8c3a-9a2f6f3f1d02",
            "quote": "An effusion blunts the costophrenic angle.",
            "span": [0, 42],
            "similarity": 0.64,
            "entails": True,
        }
    ],
    "abstain_reasons": [],
    "provenance": _PROVENANCE,
    "coverage": [{"label": "Pleural Effusion", "cases": 412, "warning": None}],
}
QUERY: Final[dict[str, Any]] = {
    "abstain_reasons": [],
    "answer": {
        "prompt": "Is there a right effusion?",
        "box": None,
        "label": "Pleural Effusion",
        "labels": ["Pleural Effusion"],
        "p": 0.83,
        "boxes": [{"x_min": 0.08, "y_min": 0.62, "x_max": 0.41, "y_max": 0.9, "weight": 0.88}],
        "finding": "pleural-effusion",
        "polarity": "positive",
        "sentence": "Small right pleural effusion.",
        "sentence_en": "Small right pleural effusion.",
        "citations": [
            {"kind": "case", "id": CASE_ID, "quote": _EFFUSION, "span": [0, 40], "similarity": 0.87, "entails": True}
        ],
        "reason": None,
    },
    "similar_cases": [_SIMILAR],
    "language": "en",
    "provenance": _PROVENANCE,
}
STEER: Final[dict[str, Any]] = {
    "abstain_reasons": [],
    "concept": _CONCEPT,
    "alpha": -1.0,
    "targets": ["Pleural Effusion"],
    "on_target": -0.34,
    "off_target": 0.02,
    "changes": [
        {"label": "Pleural Effusion", "before": 0.83, "after": 0.49},
        {"label": "Edema", "before": 0.12, "after": 0.1},
    ],
    "provenance": _PROVENANCE,
}
_LUNG_BASE: Final = {"x_min": 0.109375, "y_min": 0.59375, "x_max": 0.34375, "y_max": 0.828125, "weight": 1.0}
EXPLAIN: Final[dict[str, Any]] = {
    "abstain_reasons": [],
    "finding": "Pleural Effusion",
    "p": 0.83,
    "log_odds": 1.42,
    "log_odds_blurred": -0.88,
    "superpixels": [
        {"box": _LUNG_BASE, "area": 0.034912},
        {
            "box": {"x_min": 0.34375, "y_min": 0.5, "x_max": 0.703125, "y_max": 0.796875, "weight": 1.0},
            "area": 0.061279,
        },
    ],
    "explanations": [
        {"method": "grad_cam", "values": [0.71, 0.12], "boxes": [_LUNG_BASE], "fidelity": 0.62},
        {"method": "shapley", "values": [1.9, 0.4], "boxes": [_LUNG_BASE], "fidelity": 0.94},
    ],
    "agreements": [{"methods": ["grad_cam", "shapley"], "rank_correlation": 0.58, "top_iou": 0.41}],
    "picture": None,
    "provenance": _PROVENANCE,
}
CASE: Final[dict[str, Any]] = {
    "id": CASE_ID,
    "source": "example",
    "study": "CXR-0001",
    "text": _TEXT,
    "sentences": [
        {
            "text": _EFFUSION,
            "span": [0, 40],
            "section": "findings",
            "mentions": [
                {
                    "finding": "Pleural Effusion",
                    "polarity": "positive",
                    "span": [17, 39],
                    "laterality": "right",
                    "location": None,
                    "severity": "small",
                    "progression": None,
                }
            ],
        }
    ],
    "labels": {"positive": ["Pleural Effusion"], "uncertain": [], "negative": ["Cardiomegaly"]},
    "view": "PA",
}
ALIVE: Final = {"status": "alive"}
READY: Final[dict[str, Any]] = {"status": "ready", "components": {"models": "ok", "store": "ok"}}
INDEX: Final[dict[str, Any]] = {
    "service": "chest radiograph report drafts",
    "openapi": "/openapi.json",
    "operations": [
        "POST /v1/reports",
        "POST /v1/search",
        "POST /v1/query",
        "POST /v1/explain/steer",
        "POST /v1/verify",
        "POST /v1/explain/finding",
        "GET /v1/cases/{case_id}",
    ],
}
METRICS: Final = 'rag_http_requests_total{method="POST",route="/v1/reports",status="200"} 41.0\n'


def _problem(kind: type[ServiceError], detail: str) -> dict[str, Any]:
    return {
        "type": f"urn:problem-type:{kind.code}",
        "title": kind.title,
        "status": kind.status,
        "code": kind.code,
        "detail": detail,
        "request_id": REQUEST_ID,
    }


TO_VERIFY: Final[dict[str, Any]] = {
    "sentences": [
        {
            "text": "Small right pleural effusion.",
            "citations": [{"kind": "case", "id": CASE_ID, "quote": _EFFUSION, "span": [0, 40]}],
        },
        "There is a left effusion.",
    ],
    "prior": False,
}
VERIFY: Final[dict[str, Any]] = {
    "sentences": [
        {
            "text": "Small right pleural effusion.",
            "section": "findings",
            "verdict": "supported",
            "reasons": [],
            "citations": [
                {"kind": "case", "id": CASE_ID, "quote": _EFFUSION, "span": [0, 40], "holds": True, "reason": None}
            ],
            "found": [],
        },
        {
            "text": "There is a left effusion.",
            "section": "findings",
            "verdict": "unsupported",
            "reasons": ["cites_nothing", "no_case_says_it"],
            "citations": [],
            "found": [],
        },
    ],
    "checks": {"laterality_conflict": [], "comparison_without_prior": []},
    "unsupported_positives": 1,
    "index": _PROVENANCE["index"],
    "knowledge_base": _PROVENANCE["knowledge_base"],
}
PROBLEMS: Final[dict[int, dict[str, Any]]] = {
    401: _problem(Unauthorised, "send the key as 'Authorization: Bearer KEY' or as 'X-API-Key: KEY'"),
    404: _problem(NotFound, "no such case"),
    410: _problem(CaseWithdrawn, "this case was withdrawn"),
    413: _problem(FilmTooLarge, "at most 104857600 bytes are accepted"),
    415: _problem(NotAnImage, "the bytes are no DICOM, PNG or JPEG"),
    422: _problem(BadRequest, "limit must lie between 1 and 50"),
    429: _problem(Busy, "all workers are busy, try again in 3 s"),
    500: _problem(ServiceError, "the failure is recorded under this request id"),
    503: _problem(DeadlineExceeded, "not answered within 30 s"),
}
ANSWERS: Final[dict[str, Any]] = {
    "/v1/reports": DRAFT,
    "/v1/search": SEARCH,
    "/v1/verify": VERIFY,
    "/v1/query": QUERY,
    "/v1/explain/steer": STEER,
    "/v1/explain/finding": EXPLAIN,
    "/v1/cases/{case_id}": CASE,
    "/": INDEX,
    "/livez": ALIVE,
    "/readyz": READY,
    "/metrics": METRICS,
}
"""Path -> what its operation answers when all is well."""
NOT_READY: Final[dict[str, Any]] = {
    "type": "urn:problem-type:not_ready",
    "title": "The service is not ready",
    "status": 503,
    "code": "not_ready",
    "detail": "not every component is ok",
    "request_id": REQUEST_ID,
    "components": {"models": "ok", "store": "store_unavailable"},
}
