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
    published = {"value": 1.0, "source": text}
    classes = [{"class": text, "correct": 1, "total": 2}]
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
    assert "Action detection · Frame mAP" in text
    assert ": +21.5 points against random weights; the error of Frame mAP is not known." in text
    assert (
        "Average precision per action, % Class Pretrained Random init Occurrences sit down 41.5 41.5 7"
        in text
    )
