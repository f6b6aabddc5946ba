"""What many requests have in common: names and page sizes. Refuses with InvalidRequest."""

from collections.abc import Callable

from tunewright.wire import names

from scheduler_svc.converters.violations import Violations
from scheduler_svc.domain.job import JobId, TrainerId
from svckit.refusal import InvalidRequest, Violation

PAGE_SIZE_DEFAULT = 100


def job_id_of(name: str, field: str = "name") -> JobId:
    """The id in "jobs/{job}"."""
    return JobId(_parsed(names.job_id, name, field))


def trainer_id_of(name: str, field: str = "name") -> TrainerId:
    """The id in "trainers/{trainer}"."""
    return TrainerId(_parsed(names.trainer_id, name, field))


def page_size_of(page_size: int, page_max: int, noted: Violations) -> int:
    """The page size that is meant; notes one that is out of range."""
    if not 0 <= page_size <= page_max:
        noted.add("page_size", f"must be 1 to {page_max}, or 0; got {page_size}")
    return page_size or min(PAGE_SIZE_DEFAULT, page_max)


def _parsed(parse: Callable[[str], str], name: str, field: str) -> str:
    try:
        return parse(name)
    except ValueError as error:
        raise InvalidRequest.of([Violation(field, str(error))]) from None
