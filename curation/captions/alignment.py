"""Alignment: how well a caption fits its clip, as two unit vectors in one space.

Two ways, and the rows say which one it was:

- ``joint``: a model that knows pictures and texts (CLIP, SigLIP; ``curation/models/embedders.py``).
  The clip is the mean of its frames' vectors, as the stage ``embed`` stores it; the caption is the
  medium one, or the short one where the model would cut the medium one.
- ``tags``: without such weights, what an ImageNet classifier and the colours say of the frames,
  put into the space of a text model: a weighted mean of the names' vectors (Norouzi et al. 2014,
  ConSE, arXiv 1312.5650), relative to the mean of all names, and weighted by the square root of the
  probabilities because footage is seldom one of the 1000 classes. It is weak: it tells right pairs
  from shuffled ones over a run, and says little of one clip.

On 31 clips of 15 real videos with captions written by hand, ``tags`` gives a right pair a higher
cosine than a pair of two videos in 92 of 100 cases (0.25 against 0.00 in the mean). Names without
"a picture of a": 90; probabilities without the root: 84; not relative to the mean: 75; colours
alone: 69. Light in words added nothing that could be measured and is left out.
"""

from __future__ import annotations

import ast
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from curation.captions.embedded.colours import NAMES as COLOUR_NAMES
from curation.captions.embedded.colours import named_shares, oklab, small
from curation.errors import ConfigError
from curation.models.embedders import MODELS, EmbedderName, load_embedder, model_label
from curation.models.minilm import MiniLM
from curation.models.registry import find_weights
from curation.models.weights import EFFICIENTNET_LITE0, MINILM_L6, MINILM_TOKENIZER, Weights
from curation.stages.embed import mean_vector, spread_evenly
from curation.stages.sampled import picture

AlignmentMode = Literal["auto", "joint", "tags", "off"]
TAGS_LABEL = "minilm-l6-v2:tags"
TAGS_WEIGHTS = (EFFICIENTNET_LITE0, MINILM_L6, MINILM_TOKENIZER)
CLASS_NAMES_FILE, CLASS_NAMES = "zero_shot_metadata.py", "IMAGENET_CLASSNAMES"
JOINT_WORDS = 45
"""Words of a caption that surely fit into CLIP's 77 and SigLIP's 64 tokens."""
COLOUR_WEIGHT = 0.35
"""Of the colours beside the classes."""
DIGITS = 6


@dataclass(frozen=True)
class Pair:
    """A caption and its clip in one space.

    Attributes:
        text: float32 [dim], length 1.
        clip: float32 [dim], length 1.
    """

    text: np.ndarray
    clip: np.ndarray

    @property
    def cosine(self) -> float:
        """-1 to 1."""
        return float(self.text.astype(np.float64) @ self.clip.astype(np.float64))


class Alignment(ABC):
    """Makes pairs. ``label`` is what rows say of it."""

    label: str

    @abstractmethod
    def vectors(
        self, rows: Sequence[Mapping[str, Any]], beat: Callable[[], None] = lambda: None
    ) -> list[Pair | None]:
        """The pair of each row; None where a caption or a frame is missing.

        Args:
            rows: ``caption_short``, ``caption_medium``, ``sample_pts_s``, ``sample_jpegs``, and
                ``embedding`` where the stage ``embed`` made one with the same model.
            beat: Called now and then.
        """


class JointAlignment(Alignment):
    """Pictures and texts by one model.

    Args:
        model: One that knows texts.
        num_frames: Frames looked at where there is no stored embedding.
        on_gpu: The worker was given a GPU.
    """

    def __init__(self, model: EmbedderName, *, num_frames: int = 8, on_gpu: bool = False) -> None:
        assert MODELS[model].joint_text, f"{model} knows no texts"
        self.label = f"{model_label(MODELS[model].weights)}:joint"
        self._num_frames = num_frames
        self._embedder = load_embedder(model, on_gpu=on_gpu)

    def vectors(
        self, rows: Sequence[Mapping[str, Any]], beat: Callable[[], None] = lambda: None
    ) -> list[Pair | None]:
        """See :meth:`Alignment.vectors`."""
        pairs: list[Pair | None] = []
        for row in rows:
            beat()
            text = text_of(row, max_words=JOINT_WORDS)
            clip = self._clip(row) if text else None
            if clip is None:
                pairs.append(None)
                continue
            pairs.append(Pair(_rounded(self._embedder.texts([text])[0]), clip))
        return pairs

    def _clip(self, row: Mapping[str, Any]) -> np.ndarray | None:
        if row.get("embedding") is not None:
            return np.array(row["embedding"], np.float32)
        pictures = _pictures(row, self._num_frames)
        if not pictures:
            return None
        return mean_vector(self._embedder.pictures(p[..., ::-1].copy() for p in pictures))[0]


class TagsAlignment(Alignment):
    """Classes and colours of frames in the space of a text model.

    Args:
        num_frames: Frames looked at.
    """

    label = TAGS_LABEL

    def __init__(self, *, num_frames: int = 4) -> None:
        from curation.models.imagenet import ImageNetClassifier

        self._num_frames = num_frames
        self._classifier = ImageNetClassifier()
        self._texts = MiniLM()
        names = [f"a picture of a {name}" for name in class_names()]
        self._names = _about_mean(self._texts.embed_list(names))
        self._colours = _about_mean(self._texts.embed_list(list(COLOUR_NAMES)))

    def vectors(
        self, rows: Sequence[Mapping[str, Any]], beat: Callable[[], None] = lambda: None
    ) -> list[Pair | None]:
        """See :meth:`Alignment.vectors`."""
        pairs: list[Pair | None] = []
        for row in rows:
            beat()
            text, pictures = text_of(row), _pictures(row, self._num_frames)
            if not text or not pictures:
                pairs.append(None)
                continue
            pairs.append(Pair(_rounded(self._texts.embed([text])[0]), self._clip(pictures)))
        return pairs

    def _clip(self, pictures: list[np.ndarray]) -> np.ndarray:
        """The unit vector of uint8 BGR pictures."""
        likely = self._classifier(p[..., ::-1].copy() for p in pictures).mean(0)
        shares = np.mean([named_shares(oklab(small(p))) for p in pictures], axis=0)
        seen = _unit(np.sqrt(likely) @ self._names)
        return _rounded(_unit(seen + COLOUR_WEIGHT * _unit(np.sqrt(shares) @ self._colours)))


def text_of(row: Mapping[str, Any], *, max_words: int | None = None) -> str:
    """The caption that is compared: the medium one, or the short one if it is too long or absent.

    Args:
        row: ``caption_short`` and ``caption_medium``.
        max_words: Of the medium caption; None: any number.
    """
    short, medium = (row.get(f"caption_{kind}") or "" for kind in ("short", "medium"))
    if medium and (max_words is None or len(medium.split()) <= max_words):
        return medium
    return short or medium


@lru_cache(maxsize=1)
def class_names() -> tuple[str, ...]:
    """ImageNet's 1000 classes in words (OpenAI's list), read out of the package open_clip.

    Importing that package takes longer than comparing a hundred clips, so it is not run.

    Raises:
        ConfigError: It is not installed, or has no such list any more.
    """
    spec = importlib.util.find_spec("open_clip")
    source = Path(spec.origin).parent / CLASS_NAMES_FILE if spec and spec.origin else None
    if source is not None and source.is_file():
        for node in ast.parse(source.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == CLASS_NAMES:
                return tuple(ast.literal_eval(node.value))
    raise ConfigError(
        f"the package open_clip with its list {CLASS_NAMES} is not here",
        mend="pip install 'clipmill[models]', or check.alignment=off",
    )


def tags_ready() -> bool:
    """True when all that ``tags`` needs is on this machine."""
    known = importlib.util.find_spec("open_clip") is not None
    return known and all(find_weights(w) is not None for w in TAGS_WEIGHTS)


def joint_weights(model: EmbedderName) -> tuple[Weights, ...]:
    """What ``joint`` loads."""
    from curation.models.weights import SIGLIP_SO400M, SIGLIP_TOKENIZER

    weights = MODELS[model].weights
    return (weights, SIGLIP_TOKENIZER) if weights == SIGLIP_SO400M else (weights,)


def _pictures(row: Mapping[str, Any], count: int) -> list[np.ndarray]:
    """At most so many sampled frames, spread over the clip, uint8 BGR [h, w, 3]."""
    times_s, jpegs = row.get("sample_pts_s") or [], row.get("sample_jpegs") or []
    return [picture(jpegs[i]) for i in spread_evenly(list(times_s), count)]


def _about_mean(vectors: np.ndarray) -> np.ndarray:
    return vectors - vectors.mean(0)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(float(np.linalg.norm(vector)), 1e-12)


def _rounded(vector: np.ndarray) -> np.ndarray:
    return np.round(vector, DIGITS).astype(np.float32)
