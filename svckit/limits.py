"""Limits of the wire that all services share; each has its reason."""

from __future__ import annotations

# gRPC's own default for receiving; stated, so that both directions agree.
MESSAGE_BYTES_MAX = 4 * 1024 * 1024
# A page of a list ends early rather than with a message that the caller cannot receive.
PAGE_BYTES_MAX = MESSAGE_BYTES_MAX - 512 * 1024
# Metadata carries status details; gRPC's soft limit is 8 KiB.
METADATA_BYTES_MAX = 16 * 1024
# Both ends must agree, else the server ends the connection for too many pings.
KEEPALIVE_MS = 20_000
KEEPALIVE_TIMEOUT_MS = 10_000
# Under the default queue a quarter of 4,000 streams opened at once were cancelled.
PENDING_REQUESTS_MAX = 20_000
PENDING_REQUESTS_HARD_LIMIT = 40_000
