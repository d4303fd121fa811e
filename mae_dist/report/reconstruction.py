"""The part of the page that shows reconstructions: their error beside trivial predictors', and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mae_dist.report import wording
from mae_dist.report.blocks import meter, section
from mae_dist.report.gallery import (
    KINDS,
    Gallery,
    GalleryError,
    animation_webp,
    read_gallery,
    strip_png,
)
from mae_dist.report.markup import Html, data_uri, join, tag

_PREDICTORS = {
    "model_mse": ("The model", "predicts the hidden patches from the visible ones"),
    "nearest_visible_mse": ("Nearest visible patch", "copied into each hidden place"),
    "mean_visible_mse": ("Mean visible pixel", "of the sample, everywhere"),
}


def reconstruction(
    errors: Mapping[str, Any] | None, gallery_npz: bytes | None, *, target: str
) -> Html | None:
    """The section, or None if there are neither errors nor pictures; `target` is the config's target.kind."""
    if errors is None and gallery_npz is None:
        return None
    return section(
        "Reconstruction",
        _errors(errors) if errors else None,
        _pictures(gallery_npz, target=target) if gallery_npz is not None else None,
    )


def _errors(errors: Mapping[str, Any]) -> Html:
    if errors["state"] != "done":
        words = {"failed": "failed", "missing": "was not run"}[errors["state"]]
        return tag("p", f"The measurement {words}: {errors['reason']}.", class_="lead")
    largest = max(filter(wording.is_number, [errors[name] for name in _PREDICTORS]), default=0.0)
    places = wording.places_for([errors[name] for name in _PREDICTORS])
    rows = [
        tag(
            "tr",
            tag("th", title, tag("span", explanation, class_="sub"), scope="row"),
            tag("td", wording.decimal(errors[name], places)),
            tag("td", meter(errors[name], largest, is_model=name == "model_mse"), class_="meter"),
        )
        for name, (title, explanation) in _PREDICTORS.items()
    ]
    where = f" ({errors['split']})" if errors["split"] else ""
    lead = (
        f"Mean squared error over {wording.count(errors['num_hidden_tokens'])} hidden patches of "
        f"{wording.count(errors['num_samples'])} samples{where}, the same patches for all three."
    )
    if errors["own_statistics"]:
        lead += (
            " The model predicts normalised patches; before comparing, each got the true mean and spread of "
            "the patch it stands for, which the trivial predictors did not."
        )
    return join(
        tag("p", lead, class_="lead"),
        tag("table", tag("tbody", *rows), class_="meters"),
    )


def _pictures(npz: bytes, *, target: str) -> Html:
    try:
        gallery = read_gallery(npz)
    except GalleryError as error:
        return tag("p", f"The gallery cannot be shown: {error}", class_="callout")
    show = _clip if gallery.is_video else _image
    size = "pixelated" if gallery.is_tiny else ""
    figures = [show(gallery, sample, size) for sample in range(gallery.num_samples)]
    lead = "Held-out samples. The encoder sees only what is visible in the masked picture."
    if target.startswith("norm_pixel"):
        lead += (
            " The model predicts patches without their brightness and contrast; for these pictures each "
            "predicted patch got those of the original."
        )
    return join(
        tag("h3", "Gallery"),
        tag("p", lead, class_="lead"),
        tag("div", *figures, class_="gallery clips" if gallery.is_video else "gallery images"),
    )


def _image(gallery: Gallery, sample: int, size: str) -> Html:
    pictures = [
        tag(
            "div",
            tag("span", kind, class_="kind"),
            _picture(strip_png(getattr(gallery, kind)[sample]), "png", f"Sample {sample}, {kind}", size),
        )
        for kind in KINDS
    ]
    return tag("figure", *pictures, class_="triple")


def _clip(gallery: Gallery, sample: int, size: str) -> Html:
    animation = animation_webp(gallery, sample)
    moving = None
    if animation is not None:
        labels = tag("div", *[tag("span", kind, class_="kind") for kind in KINDS], class_="triple")
        description = f"Sample {sample} playing: original, masked, reconstructed"
        moving = tag("div", labels, _picture(animation, "webp", description, size), class_="animation")
    rows = [
        tag(
            "div",
            tag("span", kind, class_="kind"),
            _picture(
                strip_png(getattr(gallery, kind)[sample]), "png", f"Sample {sample}, {kind} frames", size
            ),
            class_="strip",
        )
        for kind in KINDS
    ]
    return tag("figure", moving, tag("div", *rows, class_="filmstrip"))


def _picture(data: bytes, media: str, description: str, size: str) -> Html:
    return tag(
        "img", src=data_uri(data, f"image/{media}"), alt=description, class_=size or None, decoding="async"
    )
