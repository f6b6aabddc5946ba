"""Server reflection: a running service describes its own contract to any client."""

from svckit.reflection.servicer import REFLECTION_SERVICES, add_reflection

__all__ = ["REFLECTION_SERVICES", "add_reflection"]
