"""Signature schemes without I/O: headers, body and clock in, a verdict out.

No scheme raises on hostile input and no foreign exception leaves: whatever a sender puts into a
request ends as `Verified` or `Refused`. Secrets appear in neither.
"""

from hookmill.signatures.scheme import Refused, Scheme, Secret, Signed, Token, Verdict, Verified

__all__ = ["Refused", "Scheme", "Secret", "Signed", "Token", "Verdict", "Verified"]
