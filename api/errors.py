"""The errors only HTTP knows, as leaves of the service's one tree (`rag_service.errors`).

ServiceError
 ├─ Unauthorised         401 unauthorised             (with WWW-Authenticate)
 ├─ BadHost              400 bad_host                 (a Host header this service does not answer to)
 ├─ UnsupportedUpload    415 unsupported_media_type   (the body's Content-Type or Content-Encoding)
 ├─ NotReady             503 not_ready                (still starting, or shutting down)
 └─ DeadlineExceeded     503 deadline_exceeded
"""

from __future__ import annotations

from rag_service.errors import ServiceError


class Unauthorised(ServiceError):
    """No key was given, or not the right one; the answer does not say which."""

    code = "unauthorised"
    status = 401
    title = "A valid key is needed"


class BadHost(ServiceError):
    """The Host header names a host this service does not answer to (a guard against DNS rebinding)."""

    code = "bad_host"
    status = 400
    title = "Unknown host"


class UnsupportedUpload(ServiceError):
    """The body is of a media type or encoding this operation does not read."""

    code = "unsupported_media_type"
    status = 415
    title = "This media type is not accepted"


class NotReady(ServiceError):
    """The service is still starting or already shutting down."""

    code = "not_ready"
    status = 503
    title = "The service is not ready"


class DeadlineExceeded(ServiceError):
    """Upload, waiting and work together took longer than one request may."""

    code = "deadline_exceeded"
    status = 503
    title = "The deadline has passed"
