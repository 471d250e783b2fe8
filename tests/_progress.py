"""What was reported of phases that take long: every one is announced before its first unit and reaches its end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from nas.core.console_reporter import ConsoleReporter
from nas.core.reporter import Reporter, Update


class Recording(Reporter):
    """Keeps (units done, units in all) of every report, by title of the phase."""

    def __init__(self) -> None:
        self.phases: dict[str, list[tuple[int, int]]] = {}

    @contextmanager
    def bars(self, titles: Sequence[str]) -> Iterator[list[Update]]:
        yield [self.of(title) for title in titles]

    def of(self, title: str) -> Update:
        reports = self.phases.setdefault(title, [])
        return lambda done, total, text: reports.append((done, total))

    def check(self, *titles: str, ended: bool = True) -> None:
        """Every title begins one of the phases, which was announced at its begin and (``ended``) reached its end."""
        for title in titles:
            found = [reports for name, reports in self.phases.items() if name.startswith(title)]
            assert found, f"no progress of {title!r}, only of {sorted(self.phases)}"
            for reports in found:
                assert reports and reports[0][0] < reports[0][1], f"{title!r} is silent until a unit is done: {reports}"
                assert not ended or reports[-1][0] == reports[-1][1] > 0, (
                    f"{title!r} does not reach its end: {reports[-1]}"
                )


def recorded(patch: pytest.MonkeyPatch) -> Recording:
    """Record what the command line reports, besides showing it."""
    recording, original = Recording(), ConsoleReporter.bars

    @contextmanager
    def bars(self: ConsoleReporter, titles: Sequence[str]) -> Iterator[list[Update]]:
        def both(shown: Update, kept: Update) -> Update:
            def update(done: int, total: int, text: str) -> None:
                shown(done, total, text)
                kept(done, total, text)

            return update

        with original(self, titles) as updates:
            yield [both(shown, recording.of(title)) for shown, title in zip(updates, titles, strict=True)]

    patch.setattr(ConsoleReporter, "bars", bars)
    return recording
