"""ms-swift's command line, as far as the spec knows it."""

from svckit.swift.argv import MAJORS, SwiftRun, major_of, swift_argv

__all__ = ["MAJORS", "SwiftRun", "major_of", "swift_argv"]
