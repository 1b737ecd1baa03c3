"""Answering with a loaded model: padded batches, grammars, token counts, memory that runs out."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from curation.captions.backends.transformers_inputs import Group, groups, model_inputs
from curation.captions.backends.transformers_load import Loaded
from curation.captions.backends.transformers_vlm import TransformersSettings, grammar_here
from curation.captions.beating import beating
from curation.captions.request import Backend, Reply, Request
from curation.errors import ErrorCode

log = logging.getLogger(__name__)


class TransformersBackend(Backend):
    """Answers requests in padded batches on one device.

    Args:
        settings: How.
        loaded: The model and its processor.
    """

    def __init__(self, settings: TransformersSettings, loaded: Loaded) -> None:
        self.settings, self.loaded = settings, loaded
        self._identity = settings.identity()
        self._batch_size = settings.batch_size
        self._grammars: dict[str, Any] = {}

    def identity(self) -> Mapping[str, Any]:
        """See the settings."""
        return self._identity

    def close(self) -> None:
        """Give the memory back."""
        del self.loaded

    def answer(
        self, requests: Sequence[Request], beat: Callable[[], None] = lambda: None
    ) -> Iterator[Reply]:
        """See :meth:`Backend.answer`; requests of one form go together."""
        for group in groups(requests, self.loaded):
            left = list(group.requests)
            while left:
                taken = left[: self._batch_size]
                beat()
                replies = self._batch(group, taken, beat)
                if replies is None:
                    self._batch_size = max(1, len(taken) // 2)
                    log.warning(
                        "out of memory with %d requests at a time, going on with %d",
                        *(len(taken), self._batch_size),
                    )
                    continue
                yield from replies
                left = left[len(taken) :]

    def _batch(
        self, group: Group, requests: Sequence[Request], beat: Callable[[], None]
    ) -> list[Reply] | None:
        """Replies to one batch; None: memory ran out and there is something to halve."""
        began = time.perf_counter()
        try:
            inputs = model_inputs(requests, group.form, self.loaded, self.settings.max_pixels)
            tokens_in = inputs["attention_mask"].sum(dim=1).tolist()
            if too_long := self._too_long(requests, tokens_in):
                del inputs  # the rest needs the memory
                fitting = [r for r in requests if r.request_id not in too_long]
                rest = self._batch(group, fitting, beat) if fitting else []
                return None if rest is None else [*too_long.values(), *rest]
            texts, tokens_out = self._generate(group, requests, inputs, beat)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as exc:
            if not _is_memory(exc):
                raise
            problem = str(exc)
        else:
            share = (time.perf_counter() - began) / len(requests)
            told = zip(requests, texts, tokens_in, tokens_out, strict=True)
            return [
                Reply(
                    request_id=request.request_id,
                    text=text,
                    input_tokens=int(num_in),
                    output_tokens=num_out,
                    busy_s=share,
                )
                for request, text, num_in, num_out in told
            ]
        _empty_cache()  # out here: the failed call's tensors lived in the exception
        if len(requests) > 1:
            return None
        code, told = ErrorCode.OUT_OF_MEMORY, f"one request is too much: {problem[:300]}"
        return [Reply(request_id=requests[0].request_id, code=str(code), message=told)]

    def _too_long(self, requests: Sequence[Request], tokens_in: list[int]) -> dict[str, Reply]:
        """Replies to requests that do not fit into the model's context, by id."""
        room = self.loaded.context_tokens
        return {
            r.request_id: Reply(
                request_id=r.request_id,
                code=ErrorCode.CAPTION_INVALID,  # the same question will not fit next time either
                message=f"{n} tokens of input and {r.max_tokens} of answer, the model takes {room};"
                " show fewer or smaller frames",
                input_tokens=int(n),
            )
            for r, n in zip(requests, tokens_in, strict=True)
            if room is not None and n + r.max_tokens > room
        }

    def _generate(
        self,
        group: Group,
        requests: Sequence[Request],
        inputs: Mapping[str, Any],
        beat: Callable[[], None],
    ) -> tuple[list[str], list[int]]:
        """Texts, and numbers of tokens written (the end sign counted)."""
        from transformers import LogitsProcessorList, StoppingCriteriaList

        loaded, settings = self.loaded, self.settings
        options: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None}
        if settings.temperature > 0:
            options = {
                "do_sample": True,
                "temperature": settings.temperature,
                "top_p": settings.top_p,
            }
            torch.manual_seed(_seed(settings.seed, requests))
        if group.schema is not None and settings.structured and grammar_here():
            options["logits_processor"] = LogitsProcessorList([self._grammar(group)])
        # Reading the question comes before the first token, and takes minutes on slow machines.
        with torch.inference_mode(), beating(beat) as stop:
            output = loaded.model.generate(
                **inputs,
                **options,
                top_k=None,
                num_beams=1,
                max_new_tokens=group.max_tokens,
                pad_token_id=loaded.pad_token_id,
                eos_token_id=loaded.eos_token_ids,
                stopping_criteria=StoppingCriteriaList([_each_token(beat, stop)]),
            )
        written = output[:, inputs["input_ids"].shape[1] :].tolist()
        kept = [_to_end(ids, loaded.eos_token_ids) for ids in written]
        texts = loaded.tokenizer.batch_decode(kept, skip_special_tokens=True)
        return [t.strip() for t in texts], [len(ids) for ids in kept]

    def _grammar(self, group: Group) -> Any:  # noqa: ANN401 - xgrammar is optional
        """A fresh processor of logits for one call; grammars are compiled once."""
        import xgrammar
        from xgrammar.contrib.hf import LogitsProcessor

        text = group.schema or "{}"
        if text not in self._grammars:
            loaded = self.loaded
            info = xgrammar.TokenizerInfo.from_huggingface(
                loaded.tokenizer,
                vocab_size=loaded.vocab_size,
                stop_token_ids=loaded.eos_token_ids,
            )
            compiler = xgrammar.GrammarCompiler(info, max_threads=1)
            self._grammars[text] = compiler.compile_json_schema(text, any_whitespace=False)
        return LogitsProcessor(self._grammars[text])


def _each_token(beat: Callable[[], None], stop: Callable[[], None]) -> Any:  # noqa: ANN401 - optional
    """A stopping criterion that stops nothing but the beats from beside, and beats by itself."""
    from transformers import StoppingCriteria

    class EachToken(StoppingCriteria):
        def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            stop()
            beat()
            return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)

    return EachToken()


def _to_end(ids: list[int], ends: list[int]) -> list[int]:
    """Token ids up to the first end sign, with it; what follows is padding."""
    for i, token in enumerate(ids):
        if token in ends:
            return ids[: i + 1]
    return ids


def _seed(seed: int, requests: Sequence[Request]) -> int:
    """A seed for a batch; other requests, other draws."""
    told = "\n".join([str(seed), *(f"{r.request_id} {r.attempt}" for r in requests)])
    return int.from_bytes(hashlib.sha256(told.encode()).digest()[:7], "big")


def _is_memory(exc: BaseException) -> bool:
    """True for all that torch says when a device or the machine has no memory left."""
    if isinstance(exc, torch.OutOfMemoryError | MemoryError):
        return True
    told = str(exc).lower()
    return any(t in told for t in ("out of memory", "can't allocate memory", "alloc_failed"))


def _empty_cache() -> None:
    import gc

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
