"""What a reader of the page can see, and what the page can never do."""

import json

import pytest

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src="http://evil.example/x.png" onerror="alert(1)">',
    "</code></pre></details><h1>owned</h1>",
    "漢字 \u2028 \x07",
    r"$\frac{1}{0}$ [bold]x[/bold] &lt; %(name)s {0} ]]> -->",
]


def test_the_page_asks_for_nothing_from_outside(finished_page):
    assert finished_page.addresses, "the page holds pictures and anchors"
    assert [
        address[:40] for address in finished_page.addresses if not address.startswith(("data:image/", "#"))
    ] == []
    assert "script" not in finished_page.tags
    assert "link" not in finished_page.tags
    assert not any("@import" in style or "url(" in style for style in finished_page.styles)


def test_every_anchor_leads_somewhere_and_no_id_appears_twice(finished_page):
    assert len(finished_page.ids) == len(set(finished_page.ids))
    assert {address[1:] for address in finished_page.addresses if address.startswith("#")} <= set(
        finished_page.ids
    )


def test_every_evaluation_appears_with_its_numbers_and_the_published_source(finished_page):
    text = finished_page.text
    for words in ["Linear probe", "41.2 ± 2.0", "39.8 ± 2.0", "+1.5 ± 2.8"]:
        assert words in text
    for words in ["Fine-tuning", "71.5 ± 1.5", "55.2 ± 2.0", "+16.2 ± 2.5", "arXiv 2203.12602, table 2"]:
        assert words in text


def test_the_use_of_the_devices_stands_beside_the_throughput(finished_page):
    words = "0.075 TFLOP/s per worker needed by the model, 25.0 % of the device's peak (MFU)"
    assert words in finished_page.text


def test_a_peak_that_is_not_known_is_said_to_be(page_of, fake_run):
    fake_run.write_config()
    fake_run.write("metrics.jsonl", json.dumps({"step": 1, "loss": 1.0, "tflops": 0.5}))
    words = (
        "0.5 TFLOP/s per worker needed by the model; the device's peak is not known (resources.peak_tflops)"
    )
    assert words in page_of(fake_run).text


def test_a_gain_within_two_standard_errors_is_not_called_one(finished_page):
    assert "Linear probe : no gain shown at this scale." in finished_page.text
    assert "see the schedule notes" in finished_page.text
    assert "12,800 clips in 400 steps" in finished_page.text
    assert "schedule" in finished_page.ids


def test_schedule_notes_are_left_out_where_every_gain_is_clear(page_of, fake_run):
    fake_run.write_config(evaluations=("finetune",))
    fake_run.write_evaluation("finetune", "pretrained", 80.0)
    fake_run.write_evaluation("finetune", "random", 40.0)
    page = page_of(fake_run)
    assert "pretraining helps, by 40.0 points" in page.text
    assert "schedule" not in page.ids


def test_random_weights_that_do_better_are_said_to(page_of, fake_run):
    fake_run.write_config(evaluations=("finetune",))
    fake_run.write_evaluation("finetune", "pretrained", 30.0)
    fake_run.write_evaluation("finetune", "random", 40.0)
    assert "random weights do better, by 10.0 points (3.5 standard errors)" in page_of(fake_run).text


def test_the_reconstruction_error_stands_beside_both_trivial_predictors(finished_page):
    text = finished_page.text
    for words in ["The model", "0.0120", "Nearest visible patch", "0.0400", "Mean visible pixel", "0.0500"]:
        assert words in text


@pytest.mark.parametrize("frames", [1, 16])
def test_every_picture_decodes(page_of, fake_run, frames):
    fake_run.write_config(frames=frames)
    fake_run.write_reconstruction(frames=frames, num_samples=2)
    pictures = page_of(fake_run).pictures
    # Three strips or images per sample, and one animation per clip.
    assert len(pictures) == 2 * (3 + (frames > 1))
    for picture in pictures:
        picture.load()
    assert [getattr(picture, "n_frames", 1) for picture in pictures].count(16) == (2 if frames > 1 else 0)


def test_a_run_on_images_speaks_of_images(page_of, fake_run):
    fake_run.write_config(frames=1, data={"catalog": "cifar10/train"})
    fake_run.write_metrics()
    text = page_of(fake_run).text
    assert "12,800 images" in text
    assert "clip" not in text


def test_the_reason_of_a_failed_evaluation_is_shown(page_of, fake_run):
    fake_run.write_config(evaluations=("linear_probe",))
    fake_run.write_evaluation("linear_probe", "pretrained", 41.0)
    fake_run.write_done("evaluations/linear_probe-random", state="failed", reason="out of memory")
    text = page_of(fake_run).text
    assert "This report is partial" in text
    assert "Linear probe from random weights : out of memory" in text
    assert "no comparison" in text


def test_a_run_that_has_only_a_config_gets_a_page(page_of, fake_run):
    fake_run.write("config.yaml", "name: bare\n")
    text = page_of(fake_run).text
    assert "bare" in text
    assert "declares no evaluations" in text


def test_faults_and_provenance_are_shown(finished_page):
    text = finished_page.text
    for words in ["clips/0017.mp4", "moov atom not found", "0123abcd with uncommitted changes", "5eed" * 16]:
        assert words in text
    for words in ["python jobs/demo.py", "torch 2.15.0", "global_batch: 32"]:
        assert words in text


def test_requests_that_had_to_be_repeated_are_counted(finished_page):
    assert "2,000, 1 of them repeated" in finished_page.text


def test_faults_of_an_evaluation_are_counted_beside_its_settings(page_of, fake_run):
    fake_run.write_config(evaluations=("finetune",))
    fake_run.write_evaluation("finetune", "random", 40.0)
    fake_run.write_fault(1, 1, "a.mp4", "empty file", folder="evaluations/finetune-random")
    assert "From random weights, an unreadable sample was replaced 1 time" in page_of(fake_run).text


def test_help_that_only_the_model_got_is_told_beside_the_error(finished_page):
    assert "each got the true mean and spread of the patch it stands for" in finished_page.text


def test_a_long_list_of_faults_says_how_many_it_leaves_out(page_of, fake_run):
    fake_run.write_config()
    for sample in range(103):
        fake_run.write_fault(1, sample, f"{sample}.mp4", "empty file")
    assert "3 more samples: see report.json" in page_of(fake_run).text


def test_a_gallery_that_cannot_be_read_is_named_and_the_rest_is_shown(page_of, finished_run):
    finished_run.write("evaluations/reconstruction/gallery.npz", b"no archive")
    text = page_of(finished_run).text
    assert "gallery.npz cannot be read" in text
    assert "71.5 ± 1.5" in text


@pytest.mark.parametrize("text", HOSTILE)
def test_text_from_outside_is_shown_and_never_becomes_markup(page_of, fake_run, text):
    fake_run.write_config(evaluations=(text, "linear_probe"), name=text)
    fake_run.write_environment(command=text, hardware={text: text}, catalog={"uri": text, "digest": text})
    fake_run.write_metrics()
    fake_run.write_fault(1, 1, text, text)
    fake_run.write_steps(
        [{"name": text, "state": "failed", "reason": text, "log": text}],
        [{"name": text, "state": text, "reason": text, "started": 0.0, "ended": 1.0}],
    )
    fake_run.write_probe(text.replace("/", ""), 1, 50.0)
    published = {"value": 1.0, "source": text}
    classes = [{"class": text, "correct": 1, "total": 2}]
    mistakes = [{"class": text, "predicted": text, "count": 1}]
    tried = [{"layer": 1, "pool": text, "validation": 50.0}]
    for start in ("pretrained", "random"):
        fake_run.write_metrics(60, path=f"evaluations/hostile-{start}/metrics.jsonl")
        result = {
            "evaluation": text,
            "start_from": start,
            "value": 50.0,
            "standard_error": 1.0,
            "metric": text,
        }
        result |= {"published": published, "per_class": classes, "settings": {text: text}}
        result |= {"confusion": mistakes, "table": tried}
        fake_run.write(f"evaluations/hostile-{start}/result.json", json.dumps(result))
        fake_run.write_done(f"evaluations/hostile-{start}")
    fake_run.write_done("evaluations/linear_probe-random", state="failed", reason=text)
    page = page_of(fake_run)
    assert page.text.count(" ".join(text.split())) >= 8
    assert page.tags.count("h1") == 1
    assert "script" not in page.tags
    assert page.handlers == []
    assert [address for address in page.addresses if not address.startswith(("data:image/", "#"))] == []


def test_a_frame_map_is_called_so_and_its_gain_is_shown_without_an_error(page_of, fake_run):
    fake_run.write_config(evaluations=("detect",))
    actions = [{"class": "sit down", "value": 41.5, "total": 7}]
    changes = {"metric": "frame_map", "standard_error": None, "per_class": actions}
    for start, value in (("pretrained", 26.5), ("random", 5.0)):
        fake_run.write_evaluation("detect", start, value, **changes)
    text = page_of(fake_run).text
    assert "Action detection Frame mAP" in text
    assert ": +21.5 points against random weights; the error of Frame mAP is not known." in text
    assert (
        "Average precision per action, % Class Pretrained Random init Occurrences sit down 41.5 41.5 7"
        in text
    )


def test_a_headline_has_its_interval_its_baseline_and_the_published_number(finished_page):
    words = "Fine-tuning 71.5 % 95 %: 68.6–74.4 random init 55.2 gain +16.2 published 80.0"
    assert words in finished_page.text
    assert "random init 39.8 no gain shown, +1.5" in finished_page.text


def test_a_headline_below_random_weights_says_by_how_much(page_of, fake_run):
    fake_run.write_config(evaluations=("knn",))
    fake_run.write_evaluation("knn", "pretrained", 30.0)
    fake_run.write_evaluation("knn", "random", 40.0)
    words = "kNN 30.0 % 95 %: 26.1–33.9 random init 40.0 a loss, −10.0"
    assert words in page_of(fake_run).text


def test_the_heads_of_a_probe_are_shown_best_first_with_those_that_diverged_last(page_of, fake_run):
    fake_run.write_config(evaluations=("feature_probe",))
    heads = [
        {"layer": layer, "pool": "class_token", "base_lr": lr, "weight_decay": 0.0, "validation": value}
        for layer, lr, value in [(11, 0.1, 40.0), (12, 12.8, None), (12, 0.1, 42.5)]
    ]
    fake_run.write_evaluation("feature_probe", "pretrained", 41.0, table=heads)
    fake_run.write_evaluation("feature_probe", "random", 31.0, table=heads[:1])
    text = page_of(fake_run).text
    assert (
        "Layer Pooling Learning rate Weight decay Held-out accuracy, % "
        "12 class token 0.1 0 42.5 chosen 11 class token 0.1 0 40.0 12 class token 12.8 0 diverged"
    ) in text
    assert (
        "From random weights the best of 1: layer 11, pooling class token, learning rate 0.1, "
        "weight decay 0; 40.0 % held-out."
    ) in text


def test_neighbours_are_shown_like_heads_and_a_long_list_says_what_it_leaves_out(page_of, fake_run):
    fake_run.write_config(evaluations=("knn",))
    rows = [{"layer": 12, "pool": "mean", "neighbours": k, "validation": 50.0 - k} for k in range(1, 21)]
    fake_run.write_evaluation("knn", "pretrained", 41.0, table=rows)
    text = page_of(fake_run).text
    assert "Layer Pooling Neighbours Held-out accuracy, % 12 mean 1 49.0 chosen" in text
    assert "8 more: see report.json." in text


def test_the_most_frequent_mistakes_are_shown(page_of, fake_run):
    fake_run.write_config(evaluations=("knn",))
    mistakes = [{"class": "left", "predicted": "right", "count": 90}]
    fake_run.write_evaluation("knn", "pretrained", 41.0, confusion=mistakes)
    assert "Is Taken for Times Of its class left right 90 75.0 %" in page_of(fake_run).text


def test_of_many_classes_the_best_and_the_worst_are_named(page_of, fake_run):
    fake_run.write_config(evaluations=("knn",))
    classes = [{"class": f"c{number}", "correct": number, "total": 20} for number in range(20)]
    fake_run.write_evaluation("knn", "pretrained", 41.0, per_class=classes)
    assert "Best: c19 95.0, c18 90.0, c17 85.0. Worst: c0 0.0, c1 5.0, c2 10.0." in page_of(fake_run).text


def test_the_commands_that_reproduce_a_run_are_on_its_page(finished_page):
    assert "The same again" in finished_page.text
    assert "git checkout 0123abcd" in finished_page.text


def test_errors_on_corrupted_images_are_shown_smallest_first(page_of, fake_run):
    fake_run.write_config(evaluations=("finetune",))
    rows = [{"corruption": "glass_blur", "error": 80.0}, {"corruption": "fog", "error": 40.0}]
    published = {"value": 51.7, "source": "arXiv 2111.06377, table 13"}
    found = {"mean_corruption_error": 75.25, "mean_error": 60.0, "table": rows, "published": published}
    changes = {"corruptions": found, "standard_error": None, "interval": None}
    fake_run.write_evaluation("finetune.imagenet_c", "pretrained", 40.0, **changes)
    text = page_of(fake_run).text
    assert "Fine-tuning on imagenet_c: corruptions, classes, settings" in text
    assert "Mean error 60.0 % Mean corruption error (mCE) 75.2 Published 51.7, arXiv 2111.06377" in text
    assert "Corruption Error, % fog 40.0 glass blur 80.0" in text


def test_a_run_on_given_weights_names_them_in_place_of_a_pretraining(page_of, fake_run):
    fake_run.write_config(evaluations=("knn",), weights="s3://bucket/run/export/model.safetensors")
    fake_run.write_evaluation("knn", "pretrained", 40.0)
    fake_run.finish()
    text = page_of(fake_run).text
    assert "Weights given s3://bucket/run/export/model.safetensors" in text
    assert "· weights given" in text
    assert "0 steps in" not in text


def test_what_the_linter_said_is_repeated(page_of, fake_run):
    fake_run.write_config()
    fake_run.write_environment(
        remarks=["augment.flip: got true; false would be right: left <is> left (a paper)"]
    )
    text = page_of(fake_run).text
    assert "1 setting unlike the papers' augment.flip: got true; false would be right: left <is> left" in text
