"""Every error the service can name, as one tree.

ServiceError                     code, HTTP status and title; the message may reach a client, so it carries no patient text
 ├─ FilmError                    the bytes are not a film we can read
 │   ├─ NotAnImage               415 not_an_image
 │   ├─ UnsupportedFilm          415 unsupported_film        (transfer syntax, modality, video, colour photograph of nothing)
 │   ├─ TruncatedFilm            422 film_truncated
 │   ├─ DecodeFailed             422 decode_failed
 │   ├─ FilmTooLarge             413 film_too_large
 │   ├─ ConstantFilm             422 film_constant
 │   ├─ LateralNotUsable         422 lateral_not_usable      (the second film is unreadable, no lateral, or the first again)
 │   ├─ PriorNotUsable           422 prior_not_usable        (the earlier film is unreadable, no frontal, or this film again)
 │   └─ PriorOfAnotherPatient    422 prior_of_another_patient
 ├─ BadRequest                   422 bad_request             (prompt too long, two inputs that exclude each other ...)
 ├─ NotFound                     404 not_found
 ├─ CaseWithdrawn                410 case_withdrawn          (a report that cites it may say so)
 ├─ Busy                         429 busy                    (carries retry_after_seconds)
 ├─ StoreUnavailable             503 store_unavailable       (carries retry_after_seconds)
 ├─ StoreProtocol                503 store_protocol          (the store answers what cannot be read)
 ├─ IndexModelMismatch           503 index_model_mismatch    (names the command that remedies it)
 ├─ DamagedRecord                500 damaged_record
 └─ BadWeights                   503 bad_weights             (names the file and the digest expected)
"""

from __future__ import annotations

from typing import ClassVar


class ServiceError(Exception):
    """Base of the tree: `code` is stable and public, `status` its HTTP status, `exit_code` the command line's."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "The service failed"
    exit_code: ClassVar[int] = 1


class FilmError(ServiceError):
    """The bytes given are not a film this service can read."""

    code = "film_error"
    status = 422
    title = "The film cannot be read"


class NotAnImage(FilmError):
    """The bytes are of no known image format."""

    code = "not_an_image"
    status = 415
    title = "Not an image"


class UnsupportedFilm(FilmError):
    """An image, but of a kind that is not accepted (modality, transfer syntax, several frames)."""

    code = "unsupported_film"
    status = 415
    title = "This kind of image is not accepted"


class TruncatedFilm(FilmError):
    """The file ends before its content does."""

    code = "film_truncated"
    title = "The file is cut short"


class DecodeFailed(FilmError):
    """The decoder refused the content or did not survive it."""

    code = "decode_failed"
    title = "The image could not be decoded"


class FilmTooLarge(FilmError):
    """Over a limit on bytes, pixels, memory or time."""

    code = "film_too_large"
    status = 413
    title = "The film is too large"


class ConstantFilm(FilmError):
    """Every pixel has the same value."""

    code = "film_constant"
    title = "The film shows nothing"


class LateralNotUsable(FilmError):
    """A second film was given that cannot stand as the study's lateral; it is never left out in silence."""

    code = "lateral_not_usable"
    title = "The lateral film cannot be used"


class PriorNotUsable(FilmError):
    """An earlier film was given that nothing can be compared with; it is never left out in silence."""

    code = "prior_not_usable"
    title = "The prior film cannot be used"


class PriorOfAnotherPatient(FilmError):
    """The films, or what the sender says of them, are of two patients. The message names neither."""

    code = "prior_of_another_patient"
    title = "The prior is of another patient"


class BadRequest(ServiceError):
    """The request contradicts itself or passes a limit."""

    code = "bad_request"
    status = 422
    title = "The request is not acceptable"
    exit_code = 2


class NotFound(ServiceError):
    """No such record, or none this caller may see."""

    code = "not_found"
    status = 404
    title = "Not found"


class CaseWithdrawn(ServiceError):
    """The case was withdrawn: a report that cites it may say so, and nothing of it is shown."""

    code = "case_withdrawn"
    status = 410
    title = "The case was withdrawn"


class Busy(ServiceError):
    """The bounded gate is full."""

    code = "busy"
    status = 429
    title = "Too many requests at once"

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__(f"all workers are busy, try again in {retry_after_seconds} s")
        self.retry_after_seconds = retry_after_seconds


class StoreUnavailable(ServiceError):
    """The knowledge store does not answer; it may in `retry_after_seconds`, the store's own word where it gave one."""

    code = "store_unavailable"
    status = 503
    title = "The knowledge base does not answer"

    def __init__(self, reason: str, retry_after_seconds: int = 2) -> None:
        super().__init__(reason)
        self.retry_after_seconds = retry_after_seconds


class StoreProtocol(ServiceError):
    """The knowledge store answers, but not what was asked: a proxy's page, another schema, too few vectors."""

    code = "store_protocol"
    status = 503
    title = "The knowledge base answers in another language"


class IndexModelMismatch(ServiceError):
    """The index was made by another model, preprocessing or labeler."""

    code = "index_model_mismatch"
    status = 503
    title = "The index belongs to another model"
    exit_code = 3


class DamagedRecord(ServiceError):
    """A stored record fails its checksum."""

    code = "damaged_record"
    title = "A stored record is damaged"
    exit_code = 3


class BadWeights(ServiceError):
    """A weight file is absent, altered, or of another architecture. Never answered with random weights."""

    code = "bad_weights"
    status = 503
    title = "The model's weights cannot be used"
    exit_code = 3
