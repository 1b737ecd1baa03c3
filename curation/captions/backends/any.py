"""The settings of all backends, told apart by ``kind``."""

from __future__ import annotations

from curation.captions.backends.embedded import EmbeddedSettings
from curation.captions.backends.openai_api import OpenAISettings
from curation.captions.backends.transformers_vlm import TransformersSettings
from curation.captions.backends.vllm_ray import VllmSettings

AnyBackend = EmbeddedSettings | TransformersSettings | VllmSettings | OpenAISettings
