"""The errors: one base class, and for each a code that logs, metrics and dead letters show."""

from __future__ import annotations

from hookmill import HookmillError, errors
from hookmill.errors import DOCS_URL, SettingsError, see

CODES = {
    "HookmillError": "error",
    "SettingsError": "settings",
    "HandlersError": "handlers",
    "UsageError": "usage",
    "NotInstalledError": "not_installed",
    "DecodeError": "undecodable",
    "WireVersionError": "unknown_wire_version",
    "StreamUnavailableError": "stream_unavailable",
    "NotDurableError": "not_durable",
    "BacklogFullError": "backlog_full",
    "PartitionsError": "partitions",
    "TokenReusedError": "token_reused",
    "CertificateUnavailableError": "certificate_unavailable",
    "NotConfirmedError": "not_confirmed",
    "GroupLostError": "group_lost",
    "GroupRefusedError": "group_refused",
    "SendError": "send",
    "AddressRefusedError": "address_refused",
}


def test_the_codes_do_not_change_because_logs_and_metrics_use_them() -> None:
    classes = [cls for cls in vars(errors).values() if isinstance(cls, type)]
    found = {cls.__name__: cls.code for cls in classes if issubclass(cls, HookmillError)}

    assert found == CODES
    assert len(set(CODES.values())) == len(CODES)


def test_every_error_has_the_same_base_class_and_a_docstring() -> None:
    for name in CODES:
        cls = getattr(errors, name)
        assert issubclass(cls, HookmillError)
        assert cls.__doc__


def test_a_settings_error_holds_every_fault_and_shows_one_a_line() -> None:
    error = SettingsError(["PORT: too high", "HOOKMILL_LEASE: too short"])

    assert error.faults == ("PORT: too high", "HOOKMILL_LEASE: too short")
    assert str(error) == "PORT: too high\nHOOKMILL_LEASE: too short"


def test_a_message_links_to_a_page_of_the_published_documentation() -> None:
    assert see("reference/sources.md") == f"see {DOCS_URL}/reference/sources.md"
    assert DOCS_URL.startswith("https://")
