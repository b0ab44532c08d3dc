"""What a model folder needs beside weights and record: calibration, gate, fusion of views, region axes, starter cases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rag_service.models.starter import save_starter
from rag_service.training.calibrate import CorpusReader, calibrate
from rag_service.training.gate_reference import fit_gate
from rag_service.training.regions import fit_regions
from rag_service.training.starter import starter_cases, starter_rows
from rag_service.training.views import fit_views


def complete(reader: CorpusReader, text_vectors: NDArray[np.float32], folder: Path) -> None:
    """Fit and write all of it for the encoder that `reader` reads with; `text_vectors` (N, t) belong to its corpus."""
    calibrate(reader).save(folder)
    fit_gate(reader, folder).save(folder)
    fit_views(reader).save(folder)
    axes = fit_regions(reader.encoder, reader.corpus.films[starter_rows(reader.corpus)])
    if axes is not None:
        axes.save(folder)
    save_starter(folder, starter_cases(reader, text_vectors, axes))
