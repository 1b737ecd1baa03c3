"""Glob patterns on columns of text: each distinct value is matched once.

A pattern is that of ``fnmatch``: ``*`` any text, ``?`` one character, ``[a-z]`` ``[!a-z]`` one of
some. Upper and lower case are one. It becomes an RE2 expression, which Arrow and DuckDB share, so
that a pattern means the same in memory and in SQL.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

AT_A_TIME = 100
"""Patterns joined in one expression: RE2 limits its size."""
NOTHING = r"[^\x{0}-\x{10FFFF}]"
SPECIAL = frozenset(r"\.+*?()|[]{}^$")


def regex(globs: Sequence[str]) -> str:
    """The RE2 expression of a whole text that matches any of the globs, in any case."""
    return rf"(?is)\A(?:{'|'.join(_one(g.lower()) for g in globs)})\z"


def encode(values: pa.Array | pa.ChunkedArray) -> pa.DictionaryArray:
    """A column as indices into its distinct values."""
    chunked = values if isinstance(values, pa.ChunkedArray) else pa.chunked_array([values])
    if pa.types.is_null(chunked.type):
        chunked = chunked.cast(pa.string())
    encoded = chunked.dictionary_encode().unify_dictionaries()
    return encoded.combine_chunks()


def spread(encoded: pa.DictionaryArray, of_value: np.ndarray) -> np.ndarray:
    """The same by row: bool [rows] from bool [distinct values]; False where the row is null."""
    # One more place at the end, for null.
    padded = np.append(of_value, False)
    places = pc.fill_null(encoded.indices.cast(pa.int64()), len(of_value))
    return padded[places.to_numpy(zero_copy_only=False)]


def match_values(values: pa.Array, globs: Sequence[str]) -> np.ndarray:
    """For each text whether it matches any of the globs, bool [values]; False for null."""
    found = np.zeros(len(values), bool)
    for start in range(0, len(globs), AT_A_TIME):
        pattern = regex(globs[start : start + AT_A_TIME])
        options = pc.MatchSubstringOptions(pattern)
        hits = pc.call_function("match_substring_regex", [values], options)
        found |= pc.fill_null(hits, False).to_numpy(zero_copy_only=False)
    return found


def matches(encoded: pa.DictionaryArray, globs: Sequence[str]) -> np.ndarray:
    """For each row whether its text matches any of the globs, bool [rows]; False for null."""
    return spread(encoded, match_values(encoded.dictionary, globs))


def sql_condition(column: str, globs: Sequence[str]) -> str:
    """The same as a condition of DuckDB; false, never null, where the column is null."""
    pieces = []
    for start in range(0, len(globs), AT_A_TIME):
        pattern = regex(globs[start : start + AT_A_TIME]).replace("'", "''")
        pieces.append(f"""regexp_matches("{column}", '{pattern}')""")
    return f"coalesce({' OR '.join(pieces)}, false)"


def _one(glob: str) -> str:
    """The expression of one pattern, without anchors."""
    pieces, at = [], 0
    while at < len(glob):
        char = glob[at]
        at += 1
        if char == "*":
            pieces.append(".*")
        elif char == "?":
            pieces.append(".")
        elif char == "[" and (end := _end_of_class(glob, at)) > 0:
            pieces.append(_class(glob[at:end]))
            at = end + 1
        else:
            pieces.append(_literal(char))
    return "".join(pieces)


def _end_of_class(glob: str, at: int) -> int:
    """Where the bracket closes; -1: it does not, so it is a plain character."""
    first = at + 1 if glob.startswith("!", at) else at
    return glob.find("]", first + 1)  # a bracket right at the start is one of the characters


def _class(members: str) -> str:
    """The expression of ``a-z_`` or ``!a-z_``."""
    negated = members.startswith("!")
    members = members[1:] if negated else members
    pieces, at = [], 0
    while at < len(members):
        low = high = members[at]
        if members[at + 1 : at + 2] == "-" and at + 2 < len(members):
            high = members[at + 2]
            at += 2
        at += 1
        if low <= high:  # an empty span matches nothing
            pieces.append(rf"\x{{{ord(low):x}}}-\x{{{ord(high):x}}}")
    if not pieces:
        return "." if negated else NOTHING
    return f"[{'^' if negated else ''}{''.join(pieces)}]"


def _literal(char: str) -> str:
    return f"\\{char}" if char in SPECIAL else char
