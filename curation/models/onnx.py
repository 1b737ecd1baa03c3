"""Running networks in the ONNX format: one thread on the CPU, the same numbers every time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from curation.errors import ConfigError
from curation.models.registry import require_weights
from curation.models.weights import Weights


class Network:
    """A network, ready to run."""

    def __init__(self, weights: Weights) -> None:
        """Load it.

        Raises:
            ConfigError: The weights or ONNX Runtime are not here.
        """
        path = require_weights(weights)
        try:
            import onnxruntime
        except ImportError as exc:
            raise ConfigError(
                f"{weights.name} needs ONNX Runtime", mend="pip install 'clipmill[models]'"
            ) from exc
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors only
        self._session = onnxruntime.InferenceSession(
            str(path), sess_options=options, providers=["CPUExecutionProvider"]
        )

    def __call__(
        self, outputs: Sequence[str], **inputs: np.ndarray[Any, Any]
    ) -> list[np.ndarray[Any, Any]]:
        """The named outputs for the named inputs."""
        return cast("list[np.ndarray]", self._session.run(list(outputs), inputs))
