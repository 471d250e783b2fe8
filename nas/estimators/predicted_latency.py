"""Latency predicted from the database's measurements of the target; nothing is run."""

from __future__ import annotations

import logging

from latency_db.core.profiler import Network
from latency_db.predictor.database import rows_of
from latency_db.predictor.features import network_features
from latency_db.predictor.model import Predictor
from latency_db.runtimes import open_profiler
from nas.core.estimate import Estimate
from nas.estimators.base import Context, Estimator, needed
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError

LOG = logging.getLogger(__name__)


class PredictedLatency(Estimator):
    """Predicted median milliseconds with the predictor's 95 % interval, at the machine's nominal speed: a
    prediction of :class:`nas.estimators.latency.Latency`.

    Fitted once, on the networks measured on the context's target, this machine and runtime version. ``note`` reports
    the cross-validated error (also logged once). Raises InputError for a network unlike the measured ones.
    """

    name, unit, direction, rank, cheap = "latency_ms", "ms", "min", 1, True

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        needed(context.target, "predicted_latency", "target", "name one: --target onnxruntime:fp32")
        needed(context.database, "predicted_latency", "latency database", "name one: --latency-db FILE")
        assert context.target is not None
        assert context.database is not None
        database = context.database
        with open_profiler(context.target) as profiler:
            key = profiler.key("")
            compared = [
                profiler.key("", target) for target in sorted({context.target, *context.compared_targets}, key=str)
            ]
        own, nominal = database.nominal_reference_ms(key), database.nominal_reference_ms(*compared)
        self._speed = nominal / own if nominal and own else 1.0  # latencies of one front are at one speed
        try:
            self.predictor = Predictor.fit(rows_of(database, key))
        except InputError as error:
            raise InputError(
                f"estimator predicted_latency lacks data in its latency database for target {context.target}: {error}"
            ) from None
        self.note = f"predicted latency on {context.target}: {self.predictor.report()}"
        LOG.info(self.note)

    def __call__(self, architecture: Architecture) -> Estimate:
        """Predict the latency of an architecture."""
        target = self.context.target
        assert target is not None
        size = target.image_size or architecture.image_size
        network = Network(self.context.space.check(architecture), self.context.num_classes, size)
        p = self.predictor.predict(network_features(network, target.batch))
        ms, low, high = (self._speed * value for value in (p.ms, p.low_ms, p.high_ms))
        return Estimate(self.name, ms, self.unit, low, high, "predicted", str(target))
