"""How long the rows of a source are. Pure.

Exact: a length is four bytes, so those of ten million rows fit in memory.
"""

from array import array

from tunewright.v1.data_service_pb2 import TokenLengths


class Lengths:
    """Lengths in tokens, of one source."""

    def __init__(self) -> None:
        self._lengths = array("I")

    def add(self, length: int) -> None:
        """One more row."""
        self._lengths.append(length)

    def summary(self) -> TokenLengths | None:
        """As in the contract; None without a row."""
        if not self._lengths:
            return None
        ordered = sorted(self._lengths)
        return TokenLengths(
            rows=len(ordered),
            min=ordered[0],
            median=_share(ordered, 50),
            p95=_share(ordered, 95),
            max=ordered[-1],
        )


def _share(ordered: list[int], percent: int) -> int:
    """The least length that so many of the rows do not exceed (nearest rank)."""
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(rank, 1) - 1]
