"""Video files: the bytes of one as frames, and frames as the bytes of one; the rooms that know FFmpeg."""

from mae_dist.data.video.clip import open_clip, read_clip
from mae_dist.data.video.encode import encode_h264

__all__ = ["encode_h264", "open_clip", "read_clip"]
