"""What the papers report, with how it was measured and where it stands: reference rows of a leaderboard.

MAE: arXiv 2111.06377. VideoMAE: arXiv 2203.12602, and the tables of its repository, MCG-NJU/VideoMAE. MAE on
videos: arXiv 2205.09113. Fine-tuning is of the whole encoder; everything learns from all labels of the
training set, one size of picture (224 x 224), and 16 frames where it is a video.
"""

from __future__ import annotations

from dataclasses import dataclass

_TOLERANCE = 0.1
"""Share of its test samples by which a data set may differ and still be known by its size: videos vanish."""


@dataclass(frozen=True, slots=True)
class DataSet:
    """A public set of test samples with labels."""

    name: str
    num_classes: int
    num_test_samples: int


DATA_SETS = {
    "in1k": DataSet("ImageNet-1k", 1000, 50_000),
    "k400": DataSet("Kinetics-400", 400, 19_796),
    "ssv2": DataSet("Something-Something V2", 174, 24_777),
    "ucf101": DataSet("UCF101", 101, 3_783),
    "hmdb51": DataSet("HMDB51", 51, 1_530),
    "ava": DataSet("AVA 2.2", 60, 57_000),
}


@dataclass(frozen=True, slots=True)
class PublishedNumber:
    """One number of a paper."""

    data_set: str
    """Key of DATA_SETS."""
    protocol: str
    """As an evaluation of ours is called."""
    setting: str | None
    """Views of a test sample, clips x crops; of action detection, whose boxes are judged. None if the source
    does not say."""
    model: str
    """As a size of ours is called, where there is one."""
    pretraining: str | None
    """Method and data; None from random weights."""
    epochs: int | None
    """Of pretraining; None if there was none, or if the source does not say."""
    value: float
    """Percent: top-1, or the frame mAP of action detection."""
    source: str


def known_data_set(*, num_classes: int, num_test_samples: int) -> str | None:
    """The key of the data set with so many classes and about so many test samples, None if there is none."""
    for key, known in DATA_SETS.items():
        away = abs(num_test_samples - known.num_test_samples)
        if known.num_classes == num_classes and away <= _TOLERANCE * known.num_test_samples:
            return key
    return None


FOUND_PEOPLE = "people found by a detector"
"""Setting of action detection in the papers; the other one is to judge the true boxes."""

_MAE, _VIDEOMAE, _ZOO = "arXiv 2111.06377", "arXiv 2203.12602", "MCG-NJU/VideoMAE, MODEL_ZOO"
_MAE_3, _MAE_11 = f"{_MAE}, table 3", f"{_MAE}, table 11: trained for"
_TABLE_2, _TABLE_3, _TABLE_4 = (f"{_VIDEOMAE}, table {number}" for number in (2, 3, 4))
_IN1K, _K400, _SSV2 = "MAE, ImageNet-1k", "VideoMAE, Kinetics-400", "VideoMAE, Something-Something V2"
_UCF101, _HMDB51, _ST = "VideoMAE, UCF101", "VideoMAE, HMDB51", "MAE on videos, Kinetics-400"

PUBLISHED = [
    PublishedNumber(*row)
    for row in [
        ("in1k", "finetune", "1 x 1", "mae_huge", _IN1K, 1600, 86.9, _MAE_3),
        ("in1k", "finetune", "1 x 1", "mae_large", _IN1K, 1600, 85.9, _MAE_3),
        ("in1k", "finetune", "1 x 1", "mae_base", _IN1K, 1600, 83.6, _MAE_3),
        ("in1k", "finetune", "1 x 1", "mae_huge", None, None, 83.1, f"{_MAE_11} 200 epochs"),
        ("in1k", "finetune", "1 x 1", "mae_large", None, None, 82.6, f"{_MAE_11} 200 epochs"),
        ("in1k", "finetune", "1 x 1", "mae_base", None, None, 82.3, f"{_MAE_11} 300 epochs"),
        ("in1k", "linear_probe", "1 x 1", "mae_huge", _IN1K, 1600, 76.6, _MAE),
        ("in1k", "linear_probe", "1 x 1", "mae_large", _IN1K, 1600, 75.8, _MAE),
        ("in1k", "linear_probe", "1 x 1", "mae_base", _IN1K, 1600, 68.0, _MAE),
        ("k400", "finetune", "5 x 3", "videomae_huge", _K400, 1600, 86.6, _ZOO),
        ("k400", "finetune", "5 x 3", "videomae_large", _K400, 1600, 85.2, _ZOO),
        ("k400", "finetune", "5 x 3", "videomae_base", _K400, 1600, 81.5, _ZOO),
        ("k400", "finetune", "5 x 3", "videomae_base", _K400, 800, 80.0, _TABLE_2),
        ("k400", "finetune", "5 x 3", "videomae_small", _K400, 1600, 79.0, _ZOO),
        ("k400", "finetune", "5 x 3", "videomae_base", None, None, 68.8, _TABLE_2),
        ("k400", "finetune", "7 x 3", "ViT-L", _ST, None, 84.8, "arXiv 2205.09113"),
        ("ssv2", "finetune", "2 x 3", "videomae_large", _SSV2, 2400, 74.3, _VIDEOMAE),
        ("ssv2", "finetune", "2 x 3", "videomae_base", _SSV2, 2400, 70.8, _ZOO),
        ("ssv2", "finetune", "2 x 3", "videomae_base", _SSV2, 800, 69.6, _TABLE_2),
        ("ssv2", "finetune", "2 x 3", "videomae_base", _K400, None, 68.5, _TABLE_4),
        ("ssv2", "finetune", "2 x 3", "videomae_small", _SSV2, 2400, 66.8, _ZOO),
        ("ssv2", "finetune", "2 x 3", "videomae_base", None, None, 32.6, _TABLE_2),
        ("ssv2", "linear_probe", None, "videomae_base", _SSV2, 800, 38.9, _TABLE_3),
        ("ucf101", "finetune", "5 x 3", "videomae_base", _K400, None, 96.1, _TABLE_4),
        ("ucf101", "finetune", "5 x 3", "videomae_base", _UCF101, 3200, 91.3, _TABLE_2),
        ("ucf101", "finetune", "5 x 3", "videomae_base", None, None, 51.4, _TABLE_2),
        ("hmdb51", "finetune", "10 x 3", "videomae_base", _K400, None, 73.3, _TABLE_4),
        ("hmdb51", "finetune", "10 x 3", "videomae_base", _HMDB51, 4800, 62.6, _TABLE_2),
        ("hmdb51", "finetune", "10 x 3", "videomae_base", None, None, 18.0, _TABLE_2),
        ("ava", "detect", FOUND_PEOPLE, "videomae_huge", _K400, None, 36.5, _VIDEOMAE),
        ("ava", "detect", FOUND_PEOPLE, "videomae_large", _K400, None, 34.3, _VIDEOMAE),
        ("ava", "detect", FOUND_PEOPLE, "videomae_base", _K400, None, 26.7, _VIDEOMAE),
        ("ava", "detect", FOUND_PEOPLE, "videomae_small", _K400, None, 22.5, _VIDEOMAE),
    ]
]
"""By data set and protocol, the best first."""
