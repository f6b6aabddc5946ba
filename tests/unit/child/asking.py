"""One process for many questions that need the training libraries."""

from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from tests.unit.child.launching import END_SECONDS, warm_context


class Asker:
    """Calls functions in a process that has the libraries imported. Close it at the end."""

    def __init__(self) -> None:
        context = warm_context()
        self._pipe, there = context.Pipe()
        self._process = context.Process(target=_answer, args=(there,))
        self._process.start()
        there.close()

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What `function` returns there; AssertionError if it raises."""
        self._pipe.send((function, arguments))
        outcome, value = self._pipe.recv()
        assert outcome == "value", value
        return value

    def close(self) -> None:
        """Ends the process."""
        self._pipe.close()
        self._process.join(END_SECONDS)


def _answer(pipe: Connection) -> None:
    while True:
        try:
            function, arguments = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(("value", function(*arguments)))
        except Exception as error:
            pipe.send(("error", f"{type(error).__name__}: {error}"))
