"""Classes of another data set are found among those trained, by name."""

from __future__ import annotations

import pytest

from mae_dist.data.class_names import read_class_names, trained_numbers
from mae_dist.data.readers import SourceError

TRAINED = ("cat", "cow", "dog", "eel")


def test_classes_are_numbered_as_they_were_trained():
    assert trained_numbers(("dog", "cat"), TRAINED).tolist() == [2, 0]


def test_a_class_may_have_another_name():
    assert trained_numbers(("hound", "cat"), TRAINED, {"hound": "dog", "unused": "cow"}).tolist() == [2, 0]


def test_classes_that_were_not_trained_are_named_with_what_would_help():
    with pytest.raises(SourceError) as caught:
        trained_numbers(("ant", "cat", "bee", "fox", "gnu"), TRAINED)
    assert str(caught.value) == (
        "4 of its 5 classes were not trained ('ant', 'bee', 'fox', ...; trained were 'cat', 'cow', 'dog', "
        "...); classes that are called otherwise are named in class_names"
    )


def test_two_classes_cannot_be_the_same():
    with pytest.raises(SourceError, match="two of its classes are the trained class 'dog'"):
        trained_numbers(("hound", "dog"), TRAINED, {"hound": "dog"})


def test_names_are_read_from_pairs_with_quotes_where_a_name_has_a_comma(tmp_path):
    (tmp_path / "names.csv").write_text('n01440764,"tench, Tinca tinca"\n\nn02, goldfish\n')
    assert read_class_names(str(tmp_path / "names.csv")) == {
        "n01440764": "tench, Tinca tinca",
        "n02": "goldfish",
    }


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a,b\nc\n", "line 2 is 'c'; it must be name there,name here"),
        ("a,b,c\n", "line 1 is 'a,b,c'; it must be name there,name here"),
        ("a,b\na,c\n", "line 2 names 'a' for the second time"),
    ],
)
def test_a_line_that_is_no_pair_is_named(tmp_path, text, problem):
    (tmp_path / "names.csv").write_text(text)
    with pytest.raises(SourceError, match=problem):
        read_class_names(str(tmp_path / "names.csv"))
