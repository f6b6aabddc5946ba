"""Collects what is wrong with a request, so that one answer names every bad field."""

from types import TracebackType

from svckit.refusal import InvalidRequest, Violation


class Violations:
    """The bad fields found so far."""

    def __init__(self) -> None:
        self._found: list[Violation] = []

    @property
    def found(self) -> tuple[Violation, ...]:
        """All of them."""
        return tuple(self._found)

    def add(self, field: str, description: str) -> None:
        """Notes one bad field."""
        self._found.append(Violation(field, description))

    def extend(self, refusal: InvalidRequest) -> None:
        """Notes all that a refusal names."""
        self._found.extend(refusal.violations)

    def noting(self, field: str) -> "Noting":
        """A block; what it raises is noted: a ValueError as `field`, a refusal as what it names."""
        return Noting(self, field)

    def refuse_any(self) -> None:
        """Raises InvalidRequest with all of them, if there are any."""
        if self._found:
            raise InvalidRequest.of(self._found)


class Noting:
    """Swallows what says that an input is wrong, and nothing else."""

    def __init__(self, noted: Violations, field: str) -> None:
        self._noted = noted
        self._field = field

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if isinstance(error, InvalidRequest):
            self._noted.extend(error)
            return True
        if isinstance(error, ValueError):
            self._noted.add(self._field, str(error))
            return True
        return False
