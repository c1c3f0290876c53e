"""A hand-over between threads in which only the newest thing counts."""

from collections.abc import Iterator
from threading import Condition
from typing import Generic, TypeVar

T = TypeVar("T")


class Latest(Generic[T]):
    """The newest of what one thread puts in, for any number of others that cannot keep up."""

    def __init__(self) -> None:
        self._news, self._ended = Condition(), False
        self._number, self._value = 0, list[T]()

    def put(self, value: T) -> None:
        with self._news:
            self._number, self._value = self._number + 1, [value]
            self._news.notify_all()

    def end(self) -> None:
        """Nothing more will come."""
        with self._news:
            self._ended = True
            self._news.notify_all()

    def __iter__(self) -> Iterator[T]:
        """What is newest, each once, until the end; waits for it."""
        seen = 0
        while True:
            with self._news:
                while self._number == seen:
                    if self._ended:
                        return
                    self._news.wait()
                seen, [value] = self._number, self._value
            yield value
