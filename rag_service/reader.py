"""What reads a film: the encoder and everything fixed for it, and what they decide of each finding before any word is chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from knowledge_base.findings import FINDINGS, NO_FINDING
from knowledge_base.records import digest
from rag_service.calibration import Calibration, Reliability
from rag_service.changes import ChangeRule, amounts
from rag_service.errors import BadWeights
from rag_service.explain.boxes import boxes
from rag_service.explain.places import place_maps
from rag_service.gate import Gate
from rag_service.imaging.film import Box, Film
from rag_service.indication import IndicationShift
from rag_service.models.concepts import Concept, SparseConcepts
from rag_service.models.encoder import FilmEncoder, FilmReading
from rag_service.models.region_queries import RegionQueries
from rag_service.models.segmenter import Segmenter
from rag_service.models.structures import StructureMasks
from rag_service.relevance import RelevanceGate
from rag_service.report.cardiothoracic import FINDING, RatioLimits, cardiothoracic_ratio, contradicts
from rag_service.report.change import Measured, PriorStudy
from rag_service.report.decisions import Decision
from rag_service.report.draft import AxisUncertainty, Uncertainty
from rag_service.report.measurements import Measurement
from rag_service.views import ViewFusion

TOP_AXES: Final = 3
CONCEPTS: Final = 3
"""Concepts shown of a finding."""
BETWEEN: Final = "between_operating_points"
"""Silence because the probability lies between the two operating points."""


@dataclass(frozen=True, eq=False)
class Reader:
    """Encoder, calibration, gate, and the fusion of views, the concepts, the relevance gate of evidence, the segmenter with the
    limits of its cardiothoracic ratio, the region queries and the weights of indications where the model folder has them.
    """

    encoder: FilmEncoder
    calibration: Calibration
    gate: Gate
    views: ViewFusion | None = None
    concepts: SparseConcepts | None = None
    relevance: RelevanceGate | None = None
    segmenter: Segmenter | None = None
    ratio_limits: RatioLimits | None = None
    queries: RegionQueries | None = None
    indication: IndicationShift | None = None
    changes: ChangeRule | None = None

    @cached_property
    def thresholds_digest(self) -> str:
        """SHA-256 of every operating point in use: the calibration's, the gate's, and the relevance gate's, the ratio's and the
        indication's if there are any.
        """
        further = [part.digest for part in (self.relevance, self.ratio_limits, self.indication) if part is not None]
        return digest([self.calibration.digest, self.gate.thresholds.digest, *further])

    def structures(self, film: Film) -> StructureMasks | None:
        """Where the lungs and the heart lie; None where the model folder has no segmenter."""
        return None if self.segmenter is None else self.segmenter.read(film)

    @staticmethod
    def measurements(structures: StructureMasks | None) -> tuple[Measurement, ...]:
        """What is measured on a film; nothing without its masks."""
        return () if structures is None else (cardiothoracic_ratio(structures),)

    def contradicted(
        self, decisions: Mapping[str, Decision], measured: Sequence[Measurement], reading: FilmReading
    ) -> tuple[str, ...]:
        """The findings whose decision cannot stand beside what was measured on the film of `reading`."""
        limits, said = self.ratio_limits, decisions[FINDING].polarity
        if limits is None:
            return ()
        return (FINDING,) if any(contradicts(m, said, limits, reading.ap) for m in measured) else ()

    def told(self, reading: FilmReading, indication: str) -> FilmReading:
        """The reading with its scores moved by what the indication tells, where the model folder has weights for that."""
        return reading if self.indication is None else self.indication.told(reading, indication)

    def compared(self, earlier: FilmReading, later: FilmReading, report: str) -> PriorStudy:
        """The earlier film's decisions, and how far each finding changed since, with the earlier film's report. BadWeights when
        the model folder has no rule for that.
        """
        if self.changes is None:
            raise BadWeights("the model folder has no change.json: this model compares no films")
        before, after = amounts(earlier, self.calibration), amounts(later, self.calibration)
        found = {f: self.changes.measured(f, before, after) for f in self.changes.findings}
        measured = {f: Measured(m, self.changes.findings[f].direction(m)) for f, m in found.items()}
        return PriorStudy(self.decisions(earlier), measured, report)

    def chances(self, reading: FilmReading) -> NDArray[np.float64]:
        """Calibrated probabilities (14,)."""
        return self.calibration.probabilities(reading.probabilities)

    def decisions(self, reading: FilmReading) -> dict[str, Decision]:
        """What may be said of each of the 14 findings, with the boxes of those that are present."""
        radius = float(reading.box.radius.mean())
        decided = {f: self._undecided(f, i, reading, radius) for i, f in enumerate(FINDINGS)}
        shown = [f for f, d in decided.items() if d.present and f != NO_FINDING]
        for finding, found in self.boxes(reading, shown).items():
            decided[finding] = replace(decided[finding], boxes=found)
        assert set(decided) == set(self.calibration.findings)  # noqa: S101  (both cover the 14 findings)
        return decided

    def boxes(self, reading: FilmReading, findings: Sequence[str]) -> dict[str, tuple[Box, ...] | None]:
        """Where findings lie: the place maps' boxes, joined with the region queries' where there are any; None for a finding that
        has no place. Empty where the model draws no maps.
        """
        if reading.places is None:
            return {}
        found = {f: boxes(m, f) for f, m in zip(findings, place_maps(reading.places, findings), strict=True)}
        if self.queries is None or not found:
            return found
        answers = self.queries.found(reading)
        return {f: b if b is None else self.queries.joined(b, answers[f]) for f, b in found.items()}

    def _undecided(self, finding: str, index: int, reading: FilmReading, radius: float) -> Decision:
        """What the calibrated heads say of a finding, before its place is known."""
        entry = self.calibration.findings[finding]
        score, spread = float(reading.probabilities[index]), float(reading.spread[index])
        confidence = self.calibration.confidence(finding, score, radius, spread)
        reliable = entry.reliability is Reliability.RELIABLE
        polarity = entry.polarity(confidence.p) if reliable else None
        silence = None if polarity is not None else BETWEEN if reliable else str(entry.reliability)
        uncertainty = self._uncertainty(index, reading, radius)
        return Decision(
            finding, polarity, confidence, uncertainty, silence=silence, concepts=self._raising(index, reading)
        )

    def _raising(self, index: int, reading: FilmReading) -> tuple[Concept, ...]:
        """The concepts at work in the film that raise this finding most."""
        head = self.encoder.finding_weights[index]
        return self.concepts.raising(reading.box.centre, head, CONCEPTS) if self.concepts else ()

    def _uncertainty(self, index: int, reading: FilmReading, radius: float) -> Uncertainty:
        """The axes whose radius moves this finding's logit most: |weight| * r."""
        weights = self.encoder.finding_weights[index]
        order = np.argsort(-np.abs(weights) * reading.box.radius, kind="stable")[:TOP_AXES]
        names = self.calibration.axis_names
        axes = tuple(AxisUncertainty(int(j), names[j], float(reading.box.radius[j])) for j in order)
        return Uncertainty(radius, axes, float(reading.spread[index]))
