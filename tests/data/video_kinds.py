"""Kinds of video files that differ in how their frames are found: arguments of the fixture `make_video`."""

from __future__ import annotations

OPEN_GOPS = {"bf": "3", "x264-params": "open_gop=1:keyint=10:min-keyint=5"}
INTRA_REFRESH = {"x264-params": "intra-refresh=1:keyint=10"}
LIBVPX = {"auto-alt-ref": "1", "lag-in-frames": "10", "g": "10", "deadline": "realtime"}

VIDEOS = {
    "H.264 with B-frames and several GOPs": {},
    "H.264 with open GOPs": {"options": OPEN_GOPS},
    "H.264 without keyframes to start from": {"container": "mpegts", "options": INTRA_REFRESH},
    "Matroska without a frame count": {"container": "matroska"},
    "a transport stream": {"container": "mpegts"},
    "an elementary stream without timestamps": {"container": "h264"},
    "MPEG-4 with B-frames in AVI": {"container": "avi", "codec": "mpeg4", "options": {"bf": "2", "g": "10"}},
    "VP8 with frames that are not shown": {"container": "webm", "codec": "libvpx", "options": LIBVPX},
    "10 bit": {"pixel_format": "yuv420p10le"},
    "full range": {"codec": "mjpeg", "container": "matroska", "pixel_format": "yuvj420p", "options": {}},
    "odd sizes": {"height": 47, "width": 65, "pixel_format": "yuv444p"},
    "odd sizes in MPEG-2": {"height": 47, "width": 65, "codec": "mpeg2video", "options": {"g": "10"}},
}
