"""The parts of transcriptions, one a clip: which stand, and what was heard."""

from piano_assets.corpus.performance import Performance
from piano_assets.corpus.transcription.transcriber import NOTE, performance_of
from piano_assets.store.parts import Part, Store, digest, read_part
from piano_assets.versions import CODE_VERSION


def part_name(rendering: str, clip: str) -> str:
    return f"{rendering}/{clip}"


def part_key(sound: str, clip: str) -> str:
    """Part key of a clip's transcription. sound: key of its rendering's part in `audio`: a recipe, not samples."""
    return digest("transcription", CODE_VERSION["transcription"], sound, clip)


def heard_parts(store: Store, rendering: str) -> dict[str, Part]:
    """clip -> the part of what was heard in it, of every clip whose transcription fits the sound as it is now."""
    sound = store.part("audio", rendering)
    if sound is None:
        return {}
    there = ((part.name.rpartition("/"), part) for part in store.parts("transcriptions"))
    return {clip: part for (of, _, clip), part in there if of == rendering and part.key == part_key(sound.key, clip)}


def heard_performances(parts: dict[str, Part]) -> dict[str, Performance]:
    """clip -> what was heard as a performance, of every clip in which a note was heard."""
    rows = {clip: read_part(part).to_pandas() for clip, part in parts.items()}
    return {clip: performance_of(found) for clip, found in rows.items() if (found["event"] == NOTE).any()}
