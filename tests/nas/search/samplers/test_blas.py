"""Threads of linear algebra while surrogates are fitted."""

from __future__ import annotations

from threadpoolctl import threadpool_info

from nas.search.explain.counterfactuals import counterfactuals
from nas.search.explain.explanation import explanation_of
from nas.search.explain.importance import importances
from nas.search.samplers.blas import on_one_blas_thread


def _threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_a_function_runs_on_one_thread_and_its_caller_does_not() -> None:
    before = _threads()
    assert on_one_blas_thread(_threads)() == {1}
    assert _threads() == before


def test_surrogates_of_a_report_are_fitted_on_one_thread() -> None:
    for function in (counterfactuals, explanation_of, importances):
        assert function.__code__ is on_one_blas_thread(function).__code__
