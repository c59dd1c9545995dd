"""What people read when something is wrong: what, and what to do."""

from __future__ import annotations

from uait.errors import Problem, ValidationFailed, from_response


def test_a_failed_validation_says_in_its_message_what_is_wrong() -> None:
    first, second = Problem("$.message", "is required"), Problem("$.n", "must be >= 1")
    assert ValidationFailed([first]).text == "$.message is required."
    assert ValidationFailed([first, second]).text == "$.message is required (and 1 more)."
    assert ValidationFailed([first], "Say something.").text == "Say something."
    assert "'details'" in ValidationFailed().text


def test_a_message_does_not_repeat_all_that_a_client_has_made_up() -> None:
    assert len(ValidationFailed([Problem("$." + "x" * 10_000, "is no name")]).text) < 400


def test_an_error_is_the_same_on_the_caller_s_side() -> None:
    error = ValidationFailed([Problem("$.message", "is required")])
    again = from_response(422, error.as_dict("id"), source="chat")
    assert again.as_dict("id") == error.as_dict("id")
