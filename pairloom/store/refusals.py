"""What a server of a bucket says when it refuses: in our words, with the cure, where no waiting helps."""

from __future__ import annotations

import re

from pairloom.errors import InputError

RIGHTS = "give these credentials the right to list, read, write and delete there, or take others"
# What a server says when no waiting helps, and the cure; looked for in its answer.
REFUSALS = {
    "NoSuchBucket": ("there is no such bucket", "correct the name, or create the bucket"),
    "ContainerNotFound": ("there is no such container", "correct the name, or create the container"),
    "The specified bucket does not exist": ("there is no such bucket", "correct the name, or create the bucket"),
    "ExpiredToken": ("the credentials have expired", "renew them, and run the same command again: it resumes"),
    "TokenRefreshRequired": ("the credentials have expired", "renew them, and run the same command again: it resumes"),
    "InvalidAccessKeyId": ("the access key is not known there", "correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
    "SignatureDoesNotMatch": ("the secret key is not that of the access key", "correct AWS_SECRET_ACCESS_KEY"),
    "RequestTimeTooSkewed": ("this machine's clock is wrong", "set it, and run the same command again"),
    "redirect without LOCATION": ("the bucket lies in another region", "set AWS_REGION to the bucket's region"),
    "PermanentRedirect": ("the bucket lies in another region", "set AWS_REGION to the bucket's region"),
    "AuthorizationHeaderMalformed": ("the bucket lies in another region", "set AWS_REGION to the bucket's region"),
    "169.254.169.254": ("no credentials were found", "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give a role"),
    "metadata.google.internal": ("no credentials were found", "set GOOGLE_APPLICATION_CREDENTIALS"),
    "AccessDenied": ("access is denied", RIGHTS),
    "AuthenticationFailed": ("the credentials are refused", "correct AZURE_STORAGE_ACCOUNT_KEY"),
}
STATUS, CODE = re.compile(r"status code: (\d+)"), re.compile(r"<Code>(\w+)</Code>")
BUSY, TIMED_OUT = ("408", "409", "425", "429"), "RequestTimeout"  # which waiting may help


def refuse_final(error: Exception, where: str) -> None:
    """Raise InputError where the server's answer will not change."""
    from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

    answer = str(error)
    for sign, (what, fix) in REFUSALS.items():
        if sign in answer:
            raise InputError(what, where, fix) from error
    status = STATUS.search(answer)
    final = status is not None and status[1].startswith("4") and status[1] not in BUSY and TIMED_OUT not in answer
    if isinstance(error, PermissionDeniedError | UnauthenticatedError) or (final and status and status[1] != "404"):
        raise InputError(said(error), where, RIGHTS) from error


def server_errors() -> tuple[type[Exception], ...]:
    from obstore.exceptions import BaseError

    return (BaseError,)


def said(error: Exception) -> str:
    """What the server said, or why it was not reached, in a line."""
    line = str(error).partition("\n")[0]
    status, code = STATUS.search(line), CODE.search(str(error))
    if status:
        return f"the server answered {status[1]}" + (f" {code[1]}" if code else "")
    return line.partition(" - ")[2].strip(": ") or line
