"""The receipts of a job's data: which of its entries they are. Pure; both clients use it."""

from __future__ import annotations

from collections.abc import Iterable

from tunewright.v1 import feed_pb2, monitor_service_pb2

_PAGE_ENTRIES = 1000


def receipt_page(job: str, page_token: str = "") -> monitor_service_pb2.ListEntriesRequest:
    """Asks for a page of the entries that receipts are among."""
    return monitor_service_pb2.ListEntriesRequest(
        job=job,
        page_size=_PAGE_ENTRIES,
        page_token=page_token,
        kinds=[monitor_service_pb2.ENTRY_KIND_EVENT],
    )


def newest_receipts(entries: Iterable[feed_pb2.Entry]) -> list[feed_pb2.DataPrepared]:
    """Those of the newest attempt that has any, in the order in which they were written.

    Every attempt prepares its data again; an earlier one may still be heard of later.
    """
    prepared = [entry for entry in entries if entry.HasField("data_prepared")]
    newest = max((entry.attempt for entry in prepared), default=0)
    return [entry.data_prepared for entry in prepared if entry.attempt == newest]
