"""The tables that captioning writes: one row per clip each, and lists of texts and vectors."""

from __future__ import annotations

import pyarrow as pa

from curation.schema import BOOL, FLOAT32, FLOAT64, FLOATS, INT32, INT64, STRING, schema

STRINGS = pa.list_(STRING)

CAPTIONS = schema(
    clip_id=STRING,
    caption_short=STRING,
    caption_medium=STRING,
    caption_long=STRING,
    caption_temporal=STRING,  # the events as one text with seconds; null without events
    caption_events=STRING,  # JSON [{"start_s": .., "end_s": .., "text": ..}], clip time
    caption_camera=STRING,  # null where nothing was said, so the next four
    caption_subjects=STRINGS,
    caption_setting=STRING,
    caption_light=STRING,
    caption_style=STRING,
    caption_backend=STRING,  # embedded | transformers | vllm | openai
    caption_model=STRING,  # who wrote it
    caption_prompt=STRING,  # prompt file and the first 12 digits of its sha256; null: none
    caption_num_frames=INT32,  # pictures that were looked at
    caption_first_frame_s=FLOAT64,  # time of the first and last of them in the clip
    caption_last_frame_s=FLOAT64,
    caption_num_windows=INT32,  # stretches that were described on their own and merged
    caption_attempts=INT32,  # answers asked for until all windows were usable
    caption_repaired=BOOL,  # some JSON had to be mended
    caption_input_tokens=INT64,  # null: not counted
    caption_output_tokens=INT64,
    caption_busy_s=FLOAT64,
)
"""Written by the stage ``caption``."""

CHECKS = schema(
    clip_id=STRING,
    caption_flags=STRINGS,  # what is wrong with the text, by code; empty: nothing
    caption_num_flags=INT32,
    caption_contradictions=STRINGS,  # sentences: what the caption says, what was measured
    caption_num_contradictions=INT32,
    caption_language=STRING,  # ISO 639-1 of the medium caption
    caption_alignment=FLOAT32,  # cosine of caption and clip; null: no model for it was here
    caption_alignment_model=STRING,
)
"""Written by the stage ``check``."""

VECTORS = schema(clip_id=STRING, text_vector=FLOATS, clip_vector=FLOATS)
"""Details of the stage ``check``: what the run's gate compares, in one space, unit length."""

REWRITES = schema(
    clip_id=STRING,
    rewrite_model=STRING,
    rewrite_num_kept=INT32,
    rewrite_num_refused=INT32,  # outside of the wanted length, or of another meaning
    rewrite_input_tokens=INT64,
    rewrite_output_tokens=INT64,
    rewrite_busy_s=FLOAT64,
)
"""Written by the stage ``rewrite``."""

REWRITE_TEXTS = schema(
    clip_id=STRING,
    style=STRING,  # name of the style in the settings
    text=STRING,
    num_words=INT32,
    similarity=FLOAT32,  # to the caption it was made of, cosine; null: no model for it was here
    prompt=STRING,
    refused=STRING,  # null: kept; else why not
)
"""Details of the stage ``rewrite``."""

SUBTITLES = schema(
    clip_id=STRING,
    subtitle_text=STRING,  # what is said inside the clip; null: nothing is known, "": nothing
    subtitle_num_cues=INT32,
    subtitle_language=STRING,  # as the file or stream names it
    subtitle_source=STRING,  # sidecar:NAME.en.srt | stream:2 | transcript:NAME.json
    subtitle_warning=STRING,  # what was wrong with files or streams that were found; null: nothing
)
"""Written by the stage ``subtitles``."""

CUES = schema(clip_id=STRING, cue_start_s=FLOAT64, cue_end_s=FLOAT64, cue_text=STRING)
"""Details of the stage ``subtitles``; times from the start of the clip, cut to it."""
