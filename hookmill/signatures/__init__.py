"""Signature schemes without I/O: they take headers, body and time, and return a verdict.

No scheme raises an exception, whatever a request holds: the verdict is `Verified` or `Refused`.
Neither of them contains a secret.
"""

from hookmill.signatures.scheme import Refused, Scheme, Secret, Signed, Token, Verdict, Verified

__all__ = ["Refused", "Scheme", "Secret", "Signed", "Token", "Verdict", "Verified"]
