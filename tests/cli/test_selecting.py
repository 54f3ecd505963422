import inspect

from hookmill.cli.selecting import with_options


def read(text: str = "none", *, number: int = 1) -> str:
    return f"{text} {number}"


@with_options(wanted=read)
def command(*, wanted: str, last: bool = False) -> str:
    """Do it."""
    return f"{wanted} {last}"


@with_options(done=command)
def outer(*, done: str, first: str) -> str:
    return f"{first}: {done}"


def test_the_options_of_a_reader_stand_in_the_place_of_the_parameter_that_it_fills() -> None:
    assert str(inspect.signature(command)) == (
        "(text: str = 'none', *, number: int = 1, last: bool = False) -> str"
    )
    assert command.__annotations__ == {"text": str, "number": int, "last": bool}
    assert (command.__name__, command.__doc__) == ("command", "Do it.")


def test_a_command_gets_what_the_reader_makes_of_its_options() -> None:
    assert command(text="some", number=2, last=True) == "some 2 True"


def test_a_reader_can_have_the_options_of_another() -> None:
    options = {"text": "some", "number": 2, "last": True}
    assert outer(first="it", **options) == "it: some 2 True"
    assert {*inspect.signature(outer).parameters} == {"first", *options}
