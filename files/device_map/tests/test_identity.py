import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_map.identity import checked_name, cloud_key, mac12, tidied_name


@pytest.mark.parametrize("text", ["a4:c1:38:00:00:0f", "A4C13800000F", " a4c13800000F "])
def test_one_mac_has_one_spelling(text: str) -> None:
    assert mac12(text) == "A4C13800000F"


@pytest.mark.parametrize("text", ["", "A4C1380000", "A4C13800000G", "A4C1380000012", "A4-C1-38-00-00-01"])
def test_what_is_no_mac_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="12 hex digits"):
        mac12(text)


def test_a_cloud_id_keeps_its_case() -> None:
    assert cloud_key("33:fa:43:81:EC:A1:01:0A") == "33fa4381ECA1010A"


def test_a_group_of_lights_is_no_cloud_id() -> None:
    with pytest.raises(ValueError, match="no cloud id"):
        cloud_key("11133334")


@pytest.mark.parametrize("name", ["", "x" * 51, "a\nb", "a\x00b", 'a"b', "a'b", "a\\b", " a", "a "])
def test_a_name_unfit_for_a_tag_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"remove it|use 1 to 50"):
        checked_name(name)


@pytest.mark.parametrize("name", ["x", "x" * 50, "stage_left", "Bühne links", "Rack 3 (top)"])
def test_a_plain_name_stays(name: str) -> None:
    assert checked_name(name) == name


def test_an_app_name_is_put_into_the_map_spelling() -> None:
    assert tidied_name(' Stage \t Left\\ "A"\x00 ') == "stage_left_a"


@given(st.text())
def test_any_app_name_ends_fit_or_empty(name: str) -> None:
    tidy = tidied_name(name)
    assert not tidy or checked_name(tidy) == tidy
