"""Features on disk: every view once, whole blocks or none, and another key for whatever changes them."""

from __future__ import annotations

import dataclasses
import itertools
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from mae_dist import storage
from mae_dist.data.batch import build_block
from mae_dist.data.catalog import Catalog
from mae_dist.data.faults import FaultBudgetError
from mae_dist.evaluate import extraction as extraction_file
from mae_dist.evaluate.extraction import Embedder, extract
from mae_dist.evaluate.features import Features, FeaturesError, joined
from mae_dist.model.mae import MaskedAutoencoder
from mae_dist.model.weights import native
from tests.evaluate.frozen_encoder import drawn, embedded_here, extraction, run_config


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(config, training samples) whose files stay for all tests here."""
    folder = tmp_path_factory.mktemp("drawn")
    config = run_config(folder)
    return config, drawn(folder, "train", config)


def save_weights(config, path: Path, seed: int) -> str:
    torch.manual_seed(seed)
    model = MaskedAutoencoder(config.model.architecture, config.grid)
    card = native.ModelCard(
        architecture=config.model.architecture,
        frames=1,
        height=32,
        width=32,
        mean=config.input.mean,
        std=config.input.std,
        target="pixel",
    )
    path.write_bytes(native.to_bytes(model.state_dict(), card))
    return str(path)


def extracted(given, samples, budget) -> Features:
    return extract(given, samples, embedded=embedded_here(given, samples), budget=budget)


def rows_of(features: Features) -> dict[str, torch.Tensor]:
    return joined(list(features.read(features.records())))


def test_every_view_of_every_sample_is_there_once_and_the_views_of_a_sample_side_by_side(made, tmp_path):
    """24 samples of 2 views in blocks of 10: the last one is padded."""
    config, samples = made
    protocol = config.evaluations["probe"]
    protocol = dataclasses.replace(
        protocol, eval_batch=10, features=dataclasses.replace(protocol.features, drawn_views=2)
    )
    config = dataclasses.replace(config, evaluations={"probe": protocol})
    features = extracted(extraction(config, samples, str(tmp_path)), samples, config.data.fault_budget)
    rows = rows_of(features)
    found = list(zip(rows["sample"].tolist(), rows["view"].tolist(), strict=True))
    assert found == list(itertools.product(range(24), range(2)))
    assert rows["label"].tolist() == np.repeat(samples.table["label"].to_numpy(), 2).tolist()
    assert not torch.equal(rows["4.mean"][0], rows["4.mean"][1])  # each view is drawn by itself


def test_features_are_the_pooled_tokens_of_the_layers_asked_for(made, tmp_path):
    config, samples = made
    given = extraction(config, samples, str(tmp_path), weights=save_weights(config, tmp_path / "w", 1))
    rows = rows_of(extracted(given, samples, config.data.fault_budget))
    encoder, _ = native.load_encoder((tmp_path / "w").read_bytes())
    embedder = Embedder(given, device=torch.device("cpu"))
    clips = torch.from_numpy(build_block(1, samples, given.stream)["clips"])
    pixels = embedder._pixels
    with torch.no_grad():
        last = encoder(pixels.normalise(pixels.cut(clips).float() / 255))
    assert sorted(name for name in rows if "." in name) == [
        "2.class_token",
        "2.mean",
        "4.class_token",
        "4.mean",
    ]
    assert torch.allclose(rows["4.mean"][6:12], last[:, 1:].mean(1), atol=1e-6)
    assert torch.allclose(rows["4.class_token"][6:12], last[:, 0], atol=1e-6)
    assert not torch.allclose(rows["2.mean"], rows["4.mean"])


def test_an_extraction_that_was_killed_makes_what_is_missing_and_nothing_else(made, tmp_path, monkeypatch):
    config, samples = made
    root = str(tmp_path)
    given = extraction(config, samples, root)
    clean = rows_of(
        extracted(extraction(config, samples, f"{root}/clean"), samples, config.data.fault_budget)
    )
    monkeypatch.setattr(extraction_file, "NOTE_SECONDS", 0.0)
    made_now, budget = [], config.data.fault_budget
    clean = rows_of(extracted(extraction(config, samples, f"{root}/clean"), samples, budget))

    def embed(skip, *, killed_after=None):
        for number, answer in enumerate(embedded_here(given, samples)(skip)):
            if number == killed_after:
                raise ConnectionAbortedError
            made_now.append(answer[0].block)
            yield answer

    for _ in range(2):
        with pytest.raises(ConnectionAbortedError):
            extract(given, samples, embedded=partial(embed, killed_after=1), budget=budget)
    features = Features.of(given.root, given.identity)
    assert not features.is_complete
    with pytest.raises(FeaturesError, match="has no COMPLETE, its extraction has not ended; run"):
        features.records()
    done = extract(given, samples, embedded=embed, budget=budget)
    assert sorted(made_now) == [0, 1, 2, 3]  # of 24 samples in blocks of 6
    for name, values in rows_of(done).items():
        assert torch.equal(values, clean[name]), name
    assert extract(given, samples, embedded=embed, budget=budget) == done
    assert len(made_now) == 4


def test_a_file_that_no_part_names_does_not_exist(made, tmp_path):
    config, samples = made
    given = extraction(config, samples, str(tmp_path))
    features = Features.of(given.root, given.identity)
    storage.write_bytes(f"{features.uri}/block-00000002.safetensors", b"torn")
    assert features.noted() == {}
    done = extracted(given, samples, config.data.fault_budget)
    assert sorted(rows_of(done)["sample"].tolist()) == list(range(24))


def test_a_block_that_was_altered_is_named(made, tmp_path):
    config, samples = made
    done = extracted(extraction(config, samples, str(tmp_path)), samples, config.data.fault_budget)
    file = Path(done.uri) / "block-00000001.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(storage.StorageDamagedError, match=r"block-00000001\.safetensors: is damaged"):
        rows_of(done)


def test_the_marker_comes_when_every_block_is_there(root):
    features = Features.of(root, {"features": ["1.mean"]})
    blocks = [{"label": torch.arange(3) + 3 * number, "1.mean": torch.rand(3, 2)} for number in range(2)]
    features.note([features.write_block(1, blocks[1])], [])
    with pytest.raises(FeaturesError, match="1 of 2 blocks are missing, 3 of 6 views are there"):
        features.complete(num_blocks=2, num_rows=6)
    assert not features.is_complete
    features.note([features.write_block(0, blocks[0])], [])
    features.complete(num_blocks=2, num_rows=6)
    rows = rows_of(Features(features.uri))
    assert torch.equal(rows["1.mean"], joined(blocks)["1.mean"])
    assert rows["label"].tolist() == list(range(6))


def test_weights_samples_and_what_is_looked_at_make_other_features(made, tmp_path):
    config, samples = made
    first, second = (save_weights(config, tmp_path / str(seed), seed) for seed in (1, 2))
    same = extraction(config, samples, str(tmp_path), weights=first)
    settings = [
        "evaluations.probe.features.layers=[-1]",
        "evaluations.probe.features.drawn_views=2",
        "evaluations.probe.features.dtype=float16",
        "evaluations.probe.views.crops=3",
        "input.mean=[0, 0, 0]",
    ]
    others = [extraction(run_config(tmp_path, its), samples, "", weights=first) for its in settings]
    others += [extraction(config, samples.subset(2), "", weights=first)]
    others += [extraction(config, samples, "", weights=weights) for weights in (second, None)]
    others += [extraction(run_config(tmp_path, "seed=1"), samples, "")]
    keys = [Features.of(str(tmp_path), given.identity).uri for given in [same, *others]]
    assert len(set(keys)) == len(keys)
    Path(first).write_bytes(Path(second).read_bytes())
    changed = extraction(config, samples, str(tmp_path), weights=first)
    assert changed.identity == extraction(config, samples, "", weights=second).identity != same.identity


@pytest.mark.parametrize(
    "setting",
    [
        "evaluations.probe.heads.batch=4",
        "evaluations.probe.features.memory_gb=1",
        "data.decoder=torchcodec",
        "log.every=5",
    ],
)
def test_what_does_not_change_features_finds_them_again(made, tmp_path, setting):
    config, samples = made
    other = extraction(run_config(tmp_path, setting), samples, "")
    assert other.identity == extraction(config, samples, "").identity


def break_samples(samples: Catalog, tmp_path: Path, *numbers: int) -> Catalog:
    """The same list, but some of its samples lie in a file that is none."""
    (tmp_path / "broken.parquet").write_bytes(b"nothing")
    uris = samples.table["uri"].to_pylist()
    for number in numbers:
        uris[number] = str(tmp_path / "broken.parquet")
    column = pa.array(uris, pa.string()).dictionary_encode()
    where = samples.table.column_names.index("uri")
    return dataclasses.replace(samples, table=samples.table.set_column(where, "uri", column))


def test_a_sample_that_cannot_be_read_is_left_out_and_named(made, tmp_path):
    samples = break_samples(made[1], tmp_path, 5)
    done = extracted(extraction(made[0], samples, str(tmp_path)), samples, made[0].data.fault_budget)
    assert rows_of(done)["sample"].tolist() == [number for number in range(24) if number != 5]
    assert [fault["sample"] for fault in done.faults()] == [5]


def test_too_many_samples_that_cannot_be_read_end_the_extraction(made, tmp_path):
    samples = break_samples(made[1], tmp_path, 5, 6)
    budget = dataclasses.replace(made[0].data.fault_budget, at_least=1, share=0.0)
    with pytest.raises(FaultBudgetError, match="2 of 24 samples could not be read"):
        extracted(extraction(made[0], samples, str(tmp_path)), samples, budget)
