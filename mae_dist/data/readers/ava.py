"""AVA 2.2: keyframes of movies, one every second, with all that every person does in them.

    ava_train_v2.2.csv                      -5KQ66BBWC4,0902,0.077,0.151,0.283,0.811,80,1
                                            video, second, corners x1 y1 x2 y2 of a box in parts of the frame,
                                            action, person; one line per action
    ava_train_excluded_timestamps_v2.2.csv  -5KQ66BBWC4,0902: keyframes that are left out
    ava_action_list_v2.2.pbtxt              name: "bend/bow (at the waist)" label_id: 1, and 79 more

One sample is one keyframe with its boxes. Seconds are those of the whole movie; where a file is a part of it,
the second at which it begins is subtracted.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from typing import Any

from mae_dist.data.catalog import Catalog, Origin
from mae_dist.data.readers.official import find_annotations, find_videos
from mae_dist.data.readers.source import Request, Source, SourceError, read_text

SPLITS = ("train", "val")
_ACTION = re.compile(r'name:\s*"([^"]+)"\s*(?:label_)?id:\s*(\d+)')

Keyframe = tuple[str, int]
"""Video and second."""


def read_ava(source: Source, request: Request, *, begins_at_seconds: int) -> Catalog:
    """The keyframes of one split in the order of its list; label n of a box is action n + 1 of the list."""
    split = request.split
    names = [f"ava_{split}_v2.2.csv"]
    list_uri = find_annotations(source, request, names, what=f"the list of {split}")
    beside = Request(annotations=list_uri.rpartition("/")[0] or ".")
    actions_uri = find_annotations(
        source, beside, ["ava_action_list_v2.2.pbtxt"], what="the list of all actions"
    )
    excluded_uri = find_annotations(
        source, beside, [f"ava_{split}_excluded_timestamps_v2.2.csv"], what="the list of excluded keyframes"
    )
    actions = _read_actions(actions_uri)
    excluded = {keyframe for keyframe, _ in _lines(excluded_uri, 2)}
    keyframes = {
        keyframe: boxes
        for keyframe, boxes in _read_boxes(list_uri, len(actions)).items()
        if keyframe not in excluded
    }
    videos = dict.fromkeys(video for video, _ in keyframes)
    found = find_videos(source, {video: [video] for video in videos}, list_uri=list_uri, split=str(split))
    there = [keyframe for keyframe in keyframes if keyframe[0] in found]
    early = next((second for _, second in there if second < begins_at_seconds), None)
    if early is not None:
        raise SourceError(
            f"{list_uri}: has a keyframe at second {early}, but the videos of this kind begin at second "
            f"{begins_at_seconds}; whole videos are of the kind ava"
        )
    files = [found[video] for video, _ in there]
    return Catalog.of(
        keys=[f"{video}/{second:04d}" for video, second in there],
        uris=[file.uri for file in files],
        media="video",
        labels=[-1] * len(there),
        classes=actions,
        lengths=[file.size_bytes for file in files],
        times=[second - begins_at_seconds for _, second in there],
        boxes=[keyframes[keyframe] for keyframe in there],
        origin=Origin("ava", str(split), len(videos), tuple(video for video in videos if video not in found)),
    )


def _read_actions(uri: str) -> list[str]:
    numbered = {int(number): name for name, number in _ACTION.findall(read_text(uri))}
    if not numbered or sorted(numbered) != list(range(1, len(numbered) + 1)):
        raise SourceError(
            f"{uri}: must name actions 1, 2, 3, ... without a gap, as ava_action_list_v2.2.pbtxt does; found "
            f"{len(numbered)}, numbered up to {max(numbered, default=0)}"
        )
    return [numbered[number] for number in sorted(numbered)]


def _read_boxes(uri: str, num_actions: int) -> dict[Keyframe, list[dict[str, Any]]]:
    """The boxes of every keyframe; the lines of one box become one."""
    keyframes: dict[Keyframe, dict[tuple[Any, ...], list[int]]] = {}
    for keyframe, (*corners, action, person) in _lines(uri, 8):
        if not 1 <= action <= num_actions:
            raise SourceError(
                f"{uri}: {keyframe[0]},{keyframe[1]:04d}: action {action}, but there are only actions 1 to "
                f"{num_actions}"
            )
        keyframes.setdefault(keyframe, {}).setdefault((*corners, person), []).append(action - 1)
    fields = ("x1", "y1", "x2", "y2", "person")
    return {
        keyframe: [dict(zip(fields, box, strict=True)) | {"labels": labels} for box, labels in boxes.items()]
        for keyframe, boxes in keyframes.items()
    }


def _lines(uri: str, num_values: int) -> Iterator[tuple[Keyframe, list[Any]]]:
    """The keyframe of every line, and the numbers after it: four corners, action and person, or none."""
    rows = csv.reader(read_text(uri).splitlines())
    for values in rows:
        if not values:
            continue
        try:
            if len(values) != num_values:
                raise ValueError(f"{len(values)} values")
            keyframe = (values[0], int(values[1]))
            numbers = [*map(float, values[2:6]), *map(int, values[6:])]
        except ValueError:
            raise SourceError(
                f"{uri}: line {rows.line_num}: {','.join(values)[:80]!r}; a line is a video, a second"
                + (", four corners, an action and a person" if num_values > 2 else "")
            ) from None
        yield keyframe, numbers
