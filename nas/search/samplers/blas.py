"""Threads of NumPy's and SciPy's linear algebra."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar

from threadpoolctl import ThreadpoolController

P = ParamSpec("P")
T = TypeVar("T")


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit linear algebra to one thread inside a ``with`` block.

    The matrices of a surrogate are small: more threads cost more CPU time than they save, many times as much on a busy
    machine.
    """
    with _blas().limit(limits=1, user_api="blas"):
        yield


def on_one_blas_thread(function: Callable[P, T]) -> Callable[P, T]:
    """Return a function that runs inside :func:`one_blas_thread`."""

    @wraps(function)
    def limited(*args: P.args, **kwargs: P.kwargs) -> T:
        with one_blas_thread():
            return function(*args, **kwargs)

    return limited


@lru_cache(1)
def _blas() -> ThreadpoolController:
    """Return the controller of the threads, made when the libraries are loaded."""
    return ThreadpoolController()
